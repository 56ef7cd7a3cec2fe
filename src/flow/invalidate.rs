//! What a request that may have changed something invalidates (RFC 9111 §4.4, RFC 9875 §3).

use super::Proxy;
use crate::rules::Scope;
use crate::semantics::invalidation;
use crate::semantics::tagging::TagField;
use http::header::HOST;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, StatusCode};
use std::sync::Arc;
use tracing::debug;

impl Proxy {
    /// Invalidates what a request and its response name, if the method may change something and the response is no error. When it
    /// returns, nothing of that is answered here any more; the other replicas hear of it as of a purge.
    pub(super) async fn invalidate(self: &Arc<Proxy>, request: &Parts, status: StatusCode, response: &HeaderMap) {
        let scopes = self.invalidated(request, status, response);
        if !scopes.is_empty() {
            self.store.invalidate(scopes).await;
        }
    }

    /// What a request and its response invalidate.
    pub(super) fn invalidated(&self, request: &Parts, status: StatusCode, response: &HeaderMap) -> Vec<Scope> {
        if !self.options.enabled || invalidation::is_safe(&request.method) || !invalidation::invalidates(status) {
            return Vec::new();
        }
        let host = request.headers.get(HOST).map_or(&[][..], |host| host.as_bytes());
        let own = request.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let named = invalidation::named_targets(host, &own, response);
        let mut scopes = self.rules.invalidated_by(request, &named);
        if self.options.tag_fields.contains(&TagField::CacheGroups) {
            scopes.extend(invalidation::groups(response).iter().filter_map(|group| Scope::of_tag(group)));
        }
        scopes.truncate(SCOPES_MAX);
        if !scopes.is_empty() {
            let names: Vec<String> = scopes.iter().map(Scope::to_string).collect();
            debug!(method = %request.method, scopes = names.join(", "), "invalidated");
        }
        scopes
    }
}

/// So many scopes one response may invalidate.
const SCOPES_MAX: usize = 64;
