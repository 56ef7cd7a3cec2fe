//! The access log: one line a request, written when its response has ended.

use super::arrival::Arrival;
use super::body::ClientBodyError;
use http::{Method, StatusCode};
use std::net::IpAddr;
use std::time::Instant;
use tracing::info;

/// What the line says.
pub(super) struct AccessRecord {
    client: IpAddr,
    method: Method,
    target: String,
    started: Instant,
    route: String,
    status: StatusCode,
    cache: String,
    octets: u64,
    end: End,
    /// The body's length, where it is known beforehand.
    length: Option<u64>,
}

/// How the response's body ended.
enum End {
    /// It was still under way: the client left.
    ClientLeft,
    /// It was sent to its end.
    Whole,
    /// It broke.
    Broken(String),
}

impl AccessRecord {
    /// What is known when a request has arrived.
    pub(super) fn of(arrival: &Arrival, started: Instant) -> AccessRecord {
        AccessRecord {
            client: arrival.client.address,
            method: arrival.parts.method.clone(),
            target: arrival.parts.uri.to_string(),
            started,
            route: String::new(),
            status: StatusCode::OK,
            cache: String::new(),
            octets: 0,
            end: End::ClientLeft,
            length: None,
        }
    }

    /// What is known when its response begins.
    pub(super) fn answered(mut self, route: &str, status: StatusCode, cache: String) -> AccessRecord {
        self.route = route.to_owned();
        self.status = status;
        self.cache = cache;
        self
    }

    /// Takes note of the body's length. The last octets may be sent without anybody asking whether more follow.
    pub(super) fn expects(&mut self, length: Option<u64>) {
        self.length = length;
        self.sent(0);
    }

    pub(super) fn sent(&mut self, octets: usize) {
        self.octets += octets as u64;
        if self.length == Some(self.octets) {
            self.end = End::Whole;
        }
    }

    pub(super) fn whole(&mut self) {
        self.end = End::Whole;
    }

    pub(super) fn failed(&mut self, error: &ClientBodyError) {
        self.end = End::Broken(error.to_string());
    }
}

impl Drop for AccessRecord {
    fn drop(&mut self) {
        let end = match &self.end {
            End::ClientLeft => "client left",
            End::Whole => "whole",
            End::Broken(error) => error,
        };
        info!(
            target: "access",
            client = %self.client,
            method = %self.method,
            request_target = self.target,
            route = self.route,
            status = self.status.as_u16(),
            cache = self.cache,
            duration_ms = self.started.elapsed().as_secs_f64() * 1e3,
            octets = self.octets,
            end,
            "request"
        );
    }
}
