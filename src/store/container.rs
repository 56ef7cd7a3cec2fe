//! How much memory the container may use, as its control group says (cgroup v2, and v1).

use std::fs;
use std::path::Path;

/// The most octets that the process and its container may use; `None` if nobody limits them.
pub(super) fn container_memory() -> Option<u64> {
    limit_below(Path::new("/"))
}

/// The lowest limit of the process' control group and those that it is in: each of them holds.
fn limit_below(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mut lowest = None;
    for line in groups.lines() {
        // `hierarchy:controllers:path`; the one of v2 is 0 and names no controllers.
        let mut fields = line.splitn(3, ':');
        let (Some(hierarchy), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let (mount, file) = match (hierarchy, controllers) {
            ("0", "") => ("sys/fs/cgroup", "memory.max"),
            (_, controllers) if controllers.split(',').any(|it| it == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        // What a container sees of the path may be more than what is mounted there; its own group is then the root.
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            let written = fs::read_to_string(root.join(mount).join(group).join(file)).unwrap_or_default();
            // v2 writes `max` for no limit, v1 a number that no machine has.
            let limit = written.trim().parse().ok().filter(|limit| *limit < UNLIMITED);
            lowest = lowest.into_iter().chain(limit).min();
        }
    }
    lowest
}

/// v1 writes the largest multiple of a page for no limit.
const UNLIMITED: u64 = 1 << 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_of_the_groups_counts() {
        let check = |groups: &str, files: &[(&str, &str)], expected: Option<u64>| {
            let root = tempfile::tempdir().unwrap();
            let write = |name: &str, text: &str| {
                let file = root.path().join(name);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, text).unwrap();
            };
            write("proc/self/cgroup", groups);
            files.iter().for_each(|(name, text)| write(&format!("sys/fs/cgroup/{name}"), text));
            assert_eq!(limit_below(root.path()), expected, "{groups:?} {files:?}");
        };
        let mib = "134217728\n";
        check("0::/\n", &[("memory.max", mib)], Some(128 << 20));
        check("0::/\n", &[("memory.max", "max\n")], None);
        check("0::/\n", &[], None);
        check("0::/a/b\n", &[("a/b/memory.max", "max\n"), ("a/memory.max", mib), ("memory.max", "max\n")], Some(128 << 20));
        check("0::/a/b\n", &[("a/b/memory.max", "1000\n"), ("a/memory.max", mib)], Some(1000));
        // The path is that of the host, and the mount shows the container's own group.
        check("0::/kubepods/pod1/c\n", &[("memory.max", mib)], Some(128 << 20));
        check("5:cpu,memory:/x\n1:name=systemd:/x\n0::/x\n", &[("memory/x/memory.limit_in_bytes", mib)], Some(128 << 20));
        check("5:memory:/\n", &[("memory/memory.limit_in_bytes", "9223372036854771712\n")], None);
        check("garbage\n0::\n", &[("memory.max", "-1\n")], None);
    }

    #[test]
    fn without_control_groups_there_is_no_limit() {
        assert_eq!(limit_below(tempfile::tempdir().unwrap().path()), None);
    }
}
