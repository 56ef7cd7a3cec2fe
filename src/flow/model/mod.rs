//! The decisions against a model: random histories of requests, time and an origin's whims, answered by the code and by a slow cache
//! that was written from the text of RFC 9111, must not show a difference.
//!
//! | file | what it holds |
//! |---|---|
//! | `history` | what happens: requests, time, and an origin, as values |
//! | `generator` | random histories, and how they shrink |
//! | `routes` | the routes that they are on |
//! | `driver` | the code under test: `plan`, `settle`, `respond` and what they use, as one cache |
//! | `messages` | messages of histories as those of the code, and back |
//! | `naive`, `rfc`, `validation`, `text` | the model: the line of a request, the rules with their sections, and what reads fields for them |

mod driver;
mod generator;
mod history;
mod messages;
mod naive;
mod rfc;
mod routes;
mod text;
mod validation;

use super::Options;
use crate::store::tests::response;
use driver::Driver;
use generator::Histories;
use history::{History, Request, Response, START_MS, World, fields_at};
use http::HeaderMap;
use naive::Naive;
use proptest::prelude::*;
use routes::ROUTES;
use std::sync::LazyLock;
use text::Fields;

/// Runs a history, and says where the two caches differ, if they do.
fn difference(history: &History) -> Option<String> {
    static RULES: LazyLock<crate::rules::RuleSet> = LazyLock::new(driver::rules);
    static OPTIONS: LazyLock<Options> = LazyLock::new(Options::default);
    let held = response("any", "", &[], &HeaderMap::new()).held;
    let (mut driver, mut naive) = (Driver::new(&RULES, &OPTIONS, held), Naive::new(ROUTES[history.route]));
    let (mut now_ms, mut number) = (START_MS, 0);
    for (at, step) in history.steps.iter().enumerate() {
        now_ms += step.wait_ms;
        let target = format!("/{}/{}", history.route, step.target);
        let request = Request { method: step.method, target, fields: fields_at(&step.fields, now_ms) };
        let world = || World { now_ms, origin: &step.origin, number, asked: Vec::new() };
        let (mut of_code, mut of_model) = (world(), world());
        let code = seen(driver.answer(&request, &mut of_code), &of_code);
        let model = seen(naive.answer(&request, &mut of_model), &of_model);
        if code != model {
            return Some(format!("step {}:\n  the code:  {code:?}\n  the model: {model:?}", at + 1));
        }
        (now_ms, number) = (of_code.now_ms, of_code.number);
    }
    None
}

/// What there is to see of an answer: status, fields and body, and what the origin was asked, by method and fields.
fn seen(response: Response, world: &World<'_>) -> (u16, Fields, String, Vec<(&'static str, Fields)>) {
    let sorted = |mut fields: Fields| {
        fields.sort();
        fields
    };
    let asked = world.asked.iter().map(|request| (request.method, sorted(request.fields.clone()))).collect();
    (response.status, sorted(response.fields), response.body, asked)
}

proptest! {
    // Two tests of 5,000, so that two cores share them.
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_histories_on_a_standard_route_end_as_rfc_9111_says(history in Histories { routes: &[0, 0, 0, 6] }) {
        let difference = difference(&history);
        prop_assert!(difference.is_none(), "{}", difference.unwrap_or_default());
    }

    #[test]
    fn random_histories_on_routes_with_rules_end_as_rfc_9111_and_the_rules_say(history in Histories { routes: &[1, 2, 3, 4, 5] }) {
        let difference = difference(&history);
        prop_assert!(difference.is_none(), "{}", difference.unwrap_or_default());
    }
}
