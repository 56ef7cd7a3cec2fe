//! Requests, and what is to be seen in their responses.

use super::{Sending, soon};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use tokio::task::JoinHandle;

type RequestBody = UnsyncBoxBody<Bytes, io::Error>;

/// A client, with a pool of connections.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    http: legacy::Client<HttpConnector, RequestBody>,
}

/// A request that is sent when it is awaited.
pub struct Ask {
    http: legacy::Client<HttpConnector, RequestBody>,
    request: Request<RequestBody>,
}

/// A response that came to its end, one way or the other.
#[derive(Debug)]
pub struct Got {
    pub status: StatusCode,
    pub fields: HeaderMap,
    pub trailers: Option<HeaderMap>,
    octets: Bytes,
    /// The body ended before its end.
    is_broken: bool,
}

/// A response whose body is still coming.
pub struct Streaming {
    pub status: StatusCode,
    pub fields: HeaderMap,
    body: Incoming,
}

/// Small pieces go out at once.
fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector
}

impl Client {
    /// Speaks HTTP/1.1 to this address.
    pub fn of(address: SocketAddr) -> Client {
        let http = legacy::Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build(connector());
        Client { address, http }
    }

    /// Speaks HTTP/2 to this address, on one connection.
    pub fn http2(address: SocketAddr) -> Client {
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        Client { address, http: builder.http2_only(true).retry_canceled_requests(false).build(connector()) }
    }

    pub fn ask(&self, method: &str, target: &str) -> Ask {
        let mut request = Request::new(whole(Bytes::new()));
        *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
        *request.uri_mut() = format!("http://{}{target}", self.address).parse::<Uri>().unwrap();
        Ask { http: self.http.clone(), request }
    }

    pub fn get(&self, target: &str) -> Ask {
        self.ask("GET", target)
    }
}

impl Ask {
    /// Adds a field.
    pub fn with(mut self, name: &str, value: &str) -> Ask {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        self.request.headers_mut().append(name.parse::<HeaderName>().unwrap(), value);
        self
    }

    pub fn body(mut self, octets: impl Into<Bytes>) -> Ask {
        *self.request.body_mut() = whole(octets.into());
        self
    }

    /// Leaves it to the test to send the body.
    pub fn sending(mut self) -> (Ask, Sending) {
        let (sending, body) = Sending::new();
        *self.request.body_mut() = body.boxed_unsync();
        (self, sending)
    }

    /// Waits for the head alone.
    pub async fn streaming(self) -> Streaming {
        let Ask { http, request } = self;
        let what = format!("the response to {} {}", request.method(), request.uri());
        let response = soon(&what, http.request(request)).await;
        let (parts, body) = response.unwrap_or_else(|error| panic!("{what}: {error:?}")).into_parts();
        Streaming { status: parts.status, fields: parts.headers, body }
    }

    /// Sends it in the background.
    pub fn spawn(self) -> JoinHandle<Got> {
        tokio::spawn(self.into_future())
    }
}

impl IntoFuture for Ask {
    type Output = Got;
    type IntoFuture = Pin<Box<dyn Future<Output = Got> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async { self.streaming().await.whole().await })
    }
}

fn whole(octets: Bytes) -> RequestBody {
    Full::new(octets).map_err(|never| match never {}).boxed_unsync()
}

impl Streaming {
    /// What came over a connection of the test's own.
    pub fn of(response: Response<Incoming>) -> Streaming {
        let (parts, body) = response.into_parts();
        Streaming { status: parts.status, fields: parts.headers, body }
    }

    /// The next piece of the body.
    pub async fn next(&mut self) -> String {
        let frame = soon("a piece of the body", self.body.frame()).await.expect("the body goes on").expect("the body is whole");
        String::from_utf8(frame.into_data().expect("data").to_vec()).unwrap()
    }

    /// The next piece of the body, unless it ends or breaks off.
    pub async fn piece(&mut self) -> Option<Bytes> {
        let frame = soon("a piece of the body", self.body.frame()).await?.ok()?;
        frame.into_data().ok()
    }

    /// The rest of the body, to its end.
    pub async fn whole(mut self) -> Got {
        let (mut octets, mut trailers, mut is_broken) = (Vec::new(), None, false);
        while let Some(frame) = soon("the rest of the body", self.body.frame()).await {
            match frame.map(|frame| frame.into_data()) {
                Ok(Ok(data)) => octets.extend_from_slice(&data),
                Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
                Err(_) => {
                    is_broken = true;
                    break;
                }
            }
        }
        Got { status: self.status, fields: self.fields, trailers, octets: octets.into(), is_broken }
    }
}

impl Got {
    pub fn body(&self) -> Bytes {
        self.octets.clone()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.octets.to_vec()).unwrap()
    }

    /// All values of a field, joined; empty if it was not there.
    pub fn field(&self, name: &str) -> String {
        let values: Vec<_> = self.fields.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        values.join(" | ")
    }

    /// The body came whole, and is this.
    #[track_caller]
    pub fn is(&self, body: &str) -> &Got {
        assert!(!self.is_broken, "the body broke off: {self:#?}");
        assert_eq!(self.text(), body, "{self:#?}");
        self
    }

    /// The body did not break off.
    pub fn came_whole(&self) -> bool {
        !self.is_broken
    }

    /// The body broke off before its end.
    #[track_caller]
    pub fn is_broken(&self) -> &Got {
        assert!(self.is_broken, "the body came as if it were whole: {self:#?}");
        self
    }

    #[track_caller]
    pub fn status(&self, status: u16) -> &Got {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }

    /// All values of a field are these, joined by ` | `; empty if it is not to be there.
    #[track_caller]
    pub fn has(&self, name: &str, value: &str) -> &Got {
        assert_eq!(self.field(name), value, "{name} of {self:#?}");
        self
    }

    /// It was answered from this tier.
    #[track_caller]
    pub fn hit(&self, tier: &str) -> &Got {
        self.says("hit").says(&format!("detail={tier}"))
    }

    /// It was forwarded to the origin, for this reason.
    #[track_caller]
    pub fn forwarded(&self, why: &str) -> &Got {
        self.says(&format!("fwd={why}"))
    }

    /// `Cache-Status` has this parameter.
    #[track_caller]
    pub fn says(&self, parameter: &str) -> &Got {
        assert!(self.cache_status().iter().any(|said| said == parameter), "{parameter} is not in {self:#?}");
        self
    }

    /// `Cache-Status` does not have this parameter.
    #[track_caller]
    pub fn does_not_say(&self, parameter: &str) -> &Got {
        assert!(!self.cache_status().iter().any(|said| said == parameter), "{parameter} is in {self:#?}");
        self
    }

    fn cache_status(&self) -> Vec<String> {
        let members = self.fields.get_all("cache-status").iter().filter_map(|value| value.to_str().ok());
        let ours = members.filter_map(|member| member.strip_prefix("sidecache")).next().unwrap_or_default();
        ours.split("; ").map(str::to_owned).collect()
    }
}

impl Streaming {
    /// What was said of the response before its body ended.
    #[track_caller]
    pub fn says(&self, parameter: &str) -> &Streaming {
        let said = self.fields.get("cache-status").map_or("", |value| value.to_str().unwrap());
        assert!(said.split("; ").any(|said| said == parameter), "{parameter} is not in {said}");
        self
    }
}
