//! The access log: one line a request, written when its response has ended.

use super::body::ClientBodyError;
use http::{Method, StatusCode};
use std::net::IpAddr;
use std::time::Instant;
use tracing::info;

/// What the line says.
pub(super) struct AccessRecord {
    pub(super) client: IpAddr,
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) route: String,
    pub(super) status: StatusCode,
    pub(super) cache: String,
    pub(super) started: Instant,
    pub(super) octets: u64,
    pub(super) end: End,
    /// The body's length, where it is known beforehand.
    pub(super) length: Option<u64>,
}

/// How the response's body ended.
pub(super) enum End {
    /// It was still under way: the client left.
    ClientLeft,
    /// It was sent to its end.
    Whole,
    /// It broke.
    Broken(String),
}

impl AccessRecord {
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
