//! `health`: asks a running sidecache whether it is well. A container's health check runs it, where there is no shell and no curl.

use super::place::{Place, Trust, configuration, token};
use crate::config::Sources;
use std::io;
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Ask whether it is ready to take traffic, not only whether it is alive.
    #[arg(long)]
    ready: bool,

    /// Ask here, instead of where the configuration says: `http://host:port/path`, or https.
    #[arg(long, value_name = "URL")]
    url: Option<String>,

    #[command(flatten)]
    trust: Trust,
}

/// Asks, and says in one line what is wrong, if something is.
pub(super) fn run(args: Args, sources: &Sources) -> ExitCode {
    let answer = Probe::new(&args, sources).and_then(Probe::run);
    match answer {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("sidecache is not well: {why}");
            ExitCode::FAILURE
        }
    }
}

/// One question, and whom to ask.
struct Probe {
    place: Place,
    path: String,
    token: Option<String>,
}

impl Probe {
    fn new(args: &Args, sources: &Sources) -> Result<Probe, String> {
        let path = if args.ready { "/readyz" } else { "/healthz" };
        if let Some(url) = &args.url {
            let (place, given) = Place::of_url(url, &args.trust)?;
            let path = if matches!(given.as_str(), "" | "/") { path } else { &given };
            return Ok(Probe { place, path: path.to_owned(), token: None });
        }
        let config = configuration(sources)?;
        Ok(Probe { place: Place::of(&config, &args.trust, "--url")?, path: path.to_owned(), token: token(&config) })
    }

    /// Waits for the answer, but no longer than the limit, wherever the time goes: in the resolver, in connecting, in reading.
    fn run(self) -> Result<(), String> {
        let shown = format!("{}{}", self.place.url(), self.path);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("the runtime cannot start: {error}"))?;
        let answer = runtime.block_on(async { tokio::time::timeout(LIMIT, self.ask()).await });
        // A resolver that hangs is not waited for.
        runtime.shutdown_background();
        match answer {
            Ok(Ok(status)) if (200..300).contains(&status) => Ok(()),
            Ok(Ok(status)) => Err(format!("{shown} answered {status}")),
            Ok(Err(error)) => Err(format!("{shown}: {error}")),
            Err(_) => Err(format!("{shown} did not answer within {} s", LIMIT.as_secs())),
        }
    }

    async fn ask(&self) -> io::Result<u16> {
        let mut connection = self.place.connect().await?;
        let authorization = self.token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n"));
        let (authority, path, authorization) = (&self.place.authority, &self.path, authorization.unwrap_or_default());
        let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\n{authorization}Connection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await?;
        connection.flush().await?;
        let mut head = [0; "HTTP/1.1 200".len()];
        connection.read_exact(&mut head).await?;
        let status = std::str::from_utf8(&head).ok().filter(|head| head.starts_with("HTTP/1."));
        let status = status.and_then(|head| head["HTTP/1.1 ".len()..].parse().ok());
        status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "that is not an HTTP/1 response"))
    }
}

/// Below the time that container runtimes give a health check.
const LIMIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};
    use std::thread;

    /// A server that gives one answer, and the request that it was sent.
    fn server(answer: &'static str) -> (SocketAddr, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let request = thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = connection.read(&mut request).unwrap();
            connection.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        (address, request)
    }

    fn args(ready: bool, url: Option<String>) -> Args {
        Args { ready, url, trust: Trust::default() }
    }

    fn probe(args: Args, toml: &str) -> Result<(), String> {
        Probe::new(&args, &Sources::new().text("proxy.toml", toml)).and_then(Probe::run)
    }

    #[test]
    fn the_admin_listener_is_asked() {
        let (address, request) = server("HTTP/1.1 200 OK\r\n\r\n");
        let toml = format!("[admin]\nlisten = \"0.0.0.0:{}\"\ntoken = \"t0k3n\"", address.port());
        assert_eq!(probe(args(true, None), &toml), Ok(()));
        let request = request.join().unwrap();
        assert!(request.starts_with("GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        assert!(request.contains("\r\nAuthorization: Bearer t0k3n\r\n"), "{request}");
    }

    #[test]
    fn without_an_admin_listener_the_main_one_is_asked() {
        let (address, request) = server("HTTP/1.0 204 No Content\r\n\r\n");
        let toml = format!("[server]\nlisten = \"{address}\"\n[admin]\nlisten = \"off\"\ntoken = \"t\"\non_proxy_port = true");
        assert_eq!(probe(args(false, None), &toml), Ok(()));
        assert!(request.join().unwrap().starts_with("GET /healthz "));
        let refused = probe(args(false, None), "[admin]\nlisten = \"off\"");
        assert_eq!(refused, Err("[admin] listen is \"off\" and on_proxy_port is not set; say --url".to_owned()));
    }

    #[test]
    fn any_other_answer_is_a_failure() {
        let ask = |answer| {
            let (address, _) = server(answer);
            let url = Some(format!("http://{address}/x"));
            probe(args(false, url), "").unwrap_err().replace(&address.to_string(), "HOST")
        };
        assert_eq!(ask("HTTP/1.1 503 Service Unavailable\r\n\r\n"), "http://HOST/x answered 503");
        assert_eq!(ask("SSH-2.0-OpenSSH_9.2\r\n"), "http://HOST/x: that is not an HTTP/1 response");
        assert!(ask("HTTP").starts_with("http://HOST/x: "));
        let url = Some("https://localhost/".to_owned());
        assert!(probe(args(false, url), "").is_err());
    }
}
