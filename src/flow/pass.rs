//! Past the cache: the request to the origin and its response to the client, as they come.

use super::arrival::{Arrival, ArrivedBody};
use super::body::Body;
use super::fill::log_failure;
use super::outcome::Outcome;
use super::plan::Detail;
use super::{Proxy, outgoing, respond, tunnel};
use crate::origin::RequestBody;
use crate::semantics::Forward;
use crate::stats::Ending;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use std::sync::Arc;

impl Proxy {
    /// The request to the origin, as it came but for what a proxy changes; its body is taken away.
    pub(super) fn request_past(&self, arrival: &mut Arrival) -> Request<RequestBody> {
        let mut fields = arrival.parts.headers.clone();
        if !arrival.is_trusted {
            outgoing::remove_steering(&mut fields);
        }
        outgoing::to_origin(&mut fields, arrival);
        let body = std::mem::replace(&mut arrival.body, ArrivedBody::None);
        let mut request = Request::new(body.into_request(self.options.client_idle_timeout));
        *request.method_mut() = arrival.parts.method.clone();
        *request.uri_mut() = arrival.parts.uri.clone();
        *request.headers_mut() = fields;
        if let Some(interim) = &arrival.client.interim {
            interim.relay(&mut request);
        }
        request
    }

    /// Relays a request and its response, and stores nothing.
    pub(super) async fn pass(
        self: &Arc<Proxy>,
        mut arrival: Arrival,
        route: &str,
        why: Forward,
        detail: Detail,
    ) -> (Response<Body>, Outcome) {
        let request = self.request_past(&mut arrival);
        let mut response = match self.origin.send(request).await {
            Ok(response) => response,
            Err(error) => {
                log_failure(&error, route);
                let outcome = Outcome::forwarded(Ending::Error, why, respond::reason_of(&error));
                return (respond::origin_failed(&error), outcome);
            }
        };
        let outcome = Outcome::forwarded(Ending::Pass, why, detail);
        let version = std::mem::replace(response.version_mut(), Version::HTTP_11);
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some((protocol, client)) = arrival.upgrade.take().and_then(|upgrade| upgrade.agreed(response.headers())) else {
                // Nobody asked for another protocol, or for this one, or it was not understood; so nothing that follows can be either.
                return respond::unasked_switch(why, route);
            };
            let origin = hyper::upgrade::on(&mut response);
            // The body is empty, and holds the place among the requests under way.
            let (parts, body) = response.into_parts();
            tunnel::bridge(&self.tasks, client, origin, self.origin.options().tunnel_idle_timeout, body);
            let mut response = Response::from_parts(parts, Body::empty());
            outgoing::to_client(response.headers_mut(), version);
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
            response.headers_mut().insert(UPGRADE, protocol);
            return (response, outcome);
        }
        outgoing::to_client(response.headers_mut(), version);
        // Before the client hears that something has changed: what it asks for next must not be the old.
        self.invalidate(&arrival.parts, response.status(), response.headers()).await;
        (response.map(Body::relay), outcome)
    }
}
