//! What a running sidecar takes over of a new configuration, and what has to wait for its next start.

use super::Config;

/// Puts what cannot change at run time back to what it is, and names the keys that this concerns.
pub fn keep_fixed(running: &Config, new: &mut Config) -> Vec<&'static str> {
    let mut fixed = Vec::new();
    keep(&mut fixed, "[server] listen", &running.server.listen, &mut new.server.listen);
    keep(&mut fixed, "[server] reuse_port", &running.server.reuse_port, &mut new.server.reuse_port);
    keep(&mut fixed, "[server] workers", &running.server.workers, &mut new.server.workers);
    // Certificates can be exchanged, but plain text and TLS do not take each other's place.
    let tls =
        [("[server.tls]", &running.server.tls, &mut new.server.tls), ("[admin.tls]", &running.admin_tls, &mut new.admin_tls)];
    for (section, was, is) in tls {
        if was.is_some() != is.is_some() {
            keep(&mut fixed, section, was, is);
        }
    }
    keep(&mut fixed, "[admin] listen", &running.admin.listen, &mut new.admin.listen);
    keep(&mut fixed, "[redis]", &running.store.redis, &mut new.store.redis);
    keep(&mut fixed, "[log] level", &running.log.level, &mut new.log.level);
    keep(&mut fixed, "[log] format", &running.log.format, &mut new.log.format);
    // A tier can grow and shrink, but neither begin nor end.
    let (is, was) = (&mut new.store.memory.bytes_max, running.store.memory.bytes_max);
    if (*is == 0) != (was == 0) {
        keep(&mut fixed, "[memory] max_size", &was, is);
    }
    fixed
}

fn keep<T: Clone + PartialEq>(fixed: &mut Vec<&'static str>, key: &'static str, running: &T, new: &mut T) {
    if new != running {
        new.clone_from(running);
        fixed.push(key);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Sources, load};
    use super::*;

    fn config(toml: &str) -> Config {
        load(&Sources::new().text("t", toml)).unwrap()
    }

    #[test]
    fn what_cannot_change_is_kept_and_named_and_the_rest_is_taken_over() {
        let check = |running: &str, new: &str, expected: &[&str], result: &str| {
            let mut read = config(new);
            assert_eq!(keep_fixed(&config(running), &mut read), expected, "{running} → {new}");
            assert!(read == config(result), "{running} → {new}");
        };
        check("", "", &[], "");
        check("", "[cache]\nttl = 7\n[server]\nconnections_max = 9", &[], "[cache]\nttl = 7\n[server]\nconnections_max = 9");
        check("", "[server]\nlisten = \":1\"\nconnections_max = 9", &["[server] listen"], "[server]\nconnections_max = 9");
        check("[server]\nworkers = 1", "[server]\nworkers = 2", &["[server] workers"], "[server]\nworkers = 1");
        check("", "[admin]\nlisten = \"off\"\ntoken = \"t\"", &["[admin] listen"], "[admin]\ntoken = \"t\"");
        check("", "[redis]\nurl = \"redis://h\"", &["[redis]"], "");
        let tls = |section: &str, file: &str| format!("[{section}.tls]\ncertificate_file = \"{file}\"\nkey_file = \"k\"");
        for section in ["server", "admin"] {
            let key = format!("[{section}.tls]");
            check("", &tls(section, "a"), &[&key], "");
            check(&tls(section, "a"), "", &[&key], &tls(section, "a"));
            check(&tls(section, "a"), &tls(section, "b"), &[], &tls(section, "b"));
        }
        check(
            "[redis]\nurl = \"redis://h\"",
            "[redis]\nurl = \"redis://h\"\nbudget = \"1s\"",
            &["[redis]"],
            "[redis]\nurl = \"redis://h\"",
        );
        check(
            "",
            "[log]\nlevel = \"warn\"\nformat = \"json\"\naccess = true",
            &["[log] level", "[log] format"],
            "[log]\naccess = true",
        );
        check("", "[memory]\nmax_size = \"1MiB\"", &[], "[memory]\nmax_size = \"1MiB\"");
        check("", "[memory]\nmax_size = 0", &["[memory] max_size"], "");
    }
}
