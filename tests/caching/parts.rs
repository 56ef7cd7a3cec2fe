//! Parts that the origin sends, on a route that follows the RFC: stored, reused and completed (RFC 9111 §3.3, §3.4).

use super::tiers::{Tier, both, both_tiers, both_with_route, is_kept};
use crate::world::{Ask, Gate, Reply, secs};
use sidecache::rules::Caching;

/// A part of ten octets, with a strong tag; fresh for a minute.
fn part(first: usize, last: usize) -> Reply {
    let octets = "0123456789"[first..=last].to_owned();
    partial(&octets, &format!("bytes {first}-{last}/10")).with("etag", "\"1\"")
}

fn partial(octets: &str, content_range: &str) -> Reply {
    Reply::new(octets.to_owned()).status(206).with("content-range", content_range).cache("max-age=60")
}

async fn standard() -> [Tier; 2] {
    both_with_route(|route| route.caching = Caching::Standard).await
}

fn range(tier: &Tier, range: &str) -> Ask {
    tier.get("/a").with("range", &format!("bytes={range}"))
}

/// The first half is stored.
async fn with_first_half() -> [Tier; 2] {
    let tiers = standard().await;
    for tier in &tiers {
        tier.origin.reply("/a", part(0, 4));
        range(tier, "0-4").await.status(206).is("01234").forwarded("uri-miss").says("stored").says("ttl=60");
        is_kept(|| range(tier, "0-4"), "01234").await;
    }
    tiers
}

/// What the origin was asked for last: `Range` and `If-Range`.
fn asked_for(tier: &Tier) -> (Option<String>, Option<String>) {
    let seen = tier.origin.last("/a");
    (seen.field("range"), seen.field("if-range"))
}

fn asked(range: &str) -> (Option<String>, Option<String>) {
    (Some(range.to_owned()), Some("\"1\"".to_owned()))
}

#[tokio::test]
async fn a_part_answers_requests_for_what_lies_within_it() {
    for tier in with_first_half().await {
        assert_eq!(asked_for(&tier), (Some("bytes=0-4".to_owned()), None));
        tier.clock.advance(secs(5));
        for (asked, content_range, body) in
            [("0-4", "bytes 0-4/10", "01234"), ("1-2", "bytes 1-2/10", "12"), ("4-4", "bytes 4-4/10", "4")]
        {
            let got = range(&tier, asked).await;
            got.status(206).is(body).hit(tier.name).has("content-range", content_range).has("age", "5").has("etag", "\"1\"");
        }
        range(&tier, "1-2").with("if-range", "\"1\"").await.status(206).is("12").hit(tier.name);
        range(&tier, "1-2").with("if-none-match", "\"1\"").await.status(304).is("").hit(tier.name);
        range(&tier, "1-2").with("if-none-match", "\"2\"").await.status(206).is("12").hit(tier.name);
        assert_eq!(tier.origin.count("/a"), 1);
    }
}

#[tokio::test]
async fn a_part_out_of_the_middle_or_the_end_answers_too() {
    for tier in standard().await {
        tier.origin.reply("/a", part(3, 6));
        range(&tier, "3-6").await.status(206).is("3456").says("stored");
        is_kept(|| range(&tier, "3-6"), "3456").await;
        range(&tier, "5-5").await.status(206).is("5").hit(tier.name).has("content-range", "bytes 5-5/10");
        // What is missing is more than one range; so it is asked for whole.
        tier.origin.reply("/a", Reply::new("0123456789").with("etag", "\"1\"").cache("max-age=60"));
        tier.get("/a").await.status(200).is("0123456789").forwarded("partial").says("stored");
        assert_eq!(asked_for(&tier), (None, None));
        tier.keeps("/a", "0123456789").await;
    }
    for tier in standard().await {
        tier.origin.reply("/a", part(5, 9));
        range(&tier, "-5").await.status(206).is("56789").says("stored");
        is_kept(|| range(&tier, "-5"), "56789").await;
        range(&tier, "-2").await.status(206).is("89").hit(tier.name).has("content-range", "bytes 8-9/10");
        tier.origin.reply("/a", part(0, 4));
        tier.get("/a").await.status(200).is("0123456789").forwarded("partial");
        assert_eq!(asked_for(&tier), asked("bytes=0-4"));
        tier.keeps("/a", "0123456789").await;
    }
}

#[tokio::test]
async fn who_asks_for_the_whole_has_a_part_completed() {
    for tier in with_first_half().await {
        tier.origin.reply("/a", part(5, 9));
        let got = tier.get("/a").await;
        got.status(200).is("0123456789").forwarded("partial").says("fwd-status=206").says("stored");
        got.has("content-range", "").has("content-length", "10").has("etag", "\"1\"");
        assert_eq!(asked_for(&tier), asked("bytes=5-"));
        tier.keeps("/a", "0123456789").await;
        tier.get("/a").await.status(200).is("0123456789").hit(tier.name).has("content-length", "10").has("content-range", "");
        range(&tier, "3-7").await.status(206).is("34567").hit(tier.name).has("content-range", "bytes 3-7/10");
        assert_eq!(tier.origin.count("/a"), 2);
    }
}

#[tokio::test]
async fn who_asks_for_a_range_beyond_a_part_has_it_completed_and_gets_the_range() {
    for tier in with_first_half().await {
        tier.origin.reply("/a", part(5, 9));
        let got = range(&tier, "3-6").await;
        got.status(206).is("3456").forwarded("partial").says("stored").has("content-range", "bytes 3-6/10");
        assert_eq!(asked_for(&tier), asked("bytes=5-"));
        tier.keeps("/a", "0123456789").await;
    }
}

#[tokio::test]
async fn a_rest_that_is_not_all_of_it_is_of_no_use_and_the_whole_is_fetched() {
    for tier in with_first_half().await {
        // The origin need not send all that it is asked for (RFC 9110 §15.3.7).
        tier.origin.reply("/a", part(5, 7));
        tier.origin.reply("/a", Reply::new("0123456789").with("etag", "\"1\"").cache("max-age=60"));
        range(&tier, "2-6").await.status(206).is("23456").forwarded("partial").has("content-range", "bytes 2-6/10");
        tier.keeps("/a", "0123456789").await;
        assert_eq!(tier.origin.count("/a"), 3);
        assert_eq!(tier.origin.last("/a").field("range"), None);
    }
}

#[tokio::test]
async fn what_would_be_too_large_as_a_whole_is_not_brought_together() {
    let tiers = both(|config| {
        config.routes[0].caching = Caching::Standard;
        config.cache.body_bytes_max = 7;
    });
    for tier in tiers.await {
        tier.origin.reply("/a", part(0, 4));
        range(&tier, "0-4").await.status(206).is("01234").says("stored");
        is_kept(|| range(&tier, "0-4"), "01234").await;
        tier.origin.reply("/a", part(5, 9));
        range(&tier, "5-9").await.status(206).is("56789").forwarded("partial");
        assert_eq!(tier.origin.last("/a").field("range").as_deref(), Some("bytes=5-9"));
        tier.origin.reply("/a", Reply::new("0123456789").with("etag", "\"1\"").cache("max-age=60"));
        tier.get("/a").await.status(200).is("0123456789").forwarded("partial").says("detail=too-large");
    }
}

#[tokio::test]
async fn many_who_want_the_whole_are_one_request_for_what_is_missing() {
    for tier in with_first_half().await {
        let gate = Gate::closed();
        tier.origin.reply("/a", part(5, 9).behind(&gate));
        let leader = tier.get("/a").spawn();
        tier.origin.arrived("/a", 2).await;
        let followers: Vec<_> = (0..3).map(|_| tier.get("/a").spawn()).collect();
        tier.followed_by(3).await;
        // Meanwhile the part answers.
        range(&tier, "1-2").await.status(206).is("12").hit(tier.name);
        gate.open();
        for got in followers.into_iter().chain([leader]) {
            got.await.unwrap().status(200).is("0123456789");
        }
        assert_eq!(tier.origin.count("/a"), 2);
    }
}

#[tokio::test]
async fn a_part_of_something_else_is_not_joined_and_the_whole_is_fetched() {
    for other in ["\"2\"", "W/\"1\""] {
        for tier in with_first_half().await {
            tier.origin.reply("/a", partial("fghij", "bytes 5-9/10").with("etag", other));
            tier.origin.reply("/a", Reply::new("abcdefghij").with("etag", other).cache("max-age=60"));
            let got = tier.get("/a").await;
            got.status(200).is("abcdefghij").forwarded("partial").says("stored").has("etag", other);
            assert_eq!(asked_for(&tier), (None, None));
            tier.keeps("/a", "abcdefghij").await;
            assert_eq!(tier.origin.count("/a"), 3);
        }
    }
}

#[tokio::test]
async fn an_origin_that_has_something_else_sends_the_whole_which_replaces_the_part() {
    for tier in with_first_half().await {
        tier.origin.reply("/a", Reply::new("abcdefghij").with("etag", "\"2\"").cache("max-age=60"));
        tier.get("/a").await.status(200).is("abcdefghij").forwarded("partial").says("stored");
        assert_eq!(asked_for(&tier), asked("bytes=5-"));
        tier.keeps("/a", "abcdefghij").await;
        assert_eq!(tier.origin.count("/a"), 2);
    }
}

#[tokio::test]
async fn a_part_that_does_not_say_for_sure_what_it_is_of_is_not_stored() {
    for tier in standard().await {
        for (number, reply) in [
            partial("01234", "bytes 0-4/10"),
            partial("01234", "bytes 0-4/10").with("etag", "W/\"1\""),
            partial("01234", "bytes 0-5/10").with("etag", "\"1\""),
            partial("01234", "bytes 0-3/10").with("etag", "\"1\""),
            partial("01234", "bytes 6-10/10").with("etag", "\"1\""),
            partial("01234", "lines 0-4/10").with("etag", "\"1\""),
            partial("01234", "bytes 0-4/10").with("content-range", "bytes 5-9/10").with("etag", "\"1\""),
            Reply::new("01234").status(206).with("etag", "\"1\"").cache("max-age=60"),
        ]
        .into_iter()
        .enumerate()
        {
            let path = &format!("/{number}");
            tier.origin.reply(path, reply);
            for _ in 0..2 {
                let got = tier.get(path).with("range", "bytes=0-4").await;
                got.status(206).is("01234").says("detail=partial").does_not_say("stored");
            }
            assert_eq!(tier.origin.count(path), 2, "{number}");
        }
    }
}

#[tokio::test]
async fn a_part_without_a_stated_lifetime_is_not_stored() {
    for tier in standard().await {
        tier.origin.reply("/a", Reply::new("01234").status(206).with("content-range", "bytes 0-4/10").with("etag", "\"1\""));
        for _ in 0..2 {
            range(&tier, "0-4").await.status(206).is("01234").does_not_say("stored");
        }
        assert_eq!(tier.origin.count("/a"), 2);
    }
}

#[tokio::test]
async fn a_stale_part_is_completed_and_fresh_again() {
    for tier in with_first_half().await {
        tier.clock.advance(secs(61));
        tier.origin.reply("/a", part(5, 9));
        range(&tier, "1-2").await.status(206).is("12").forwarded("partial").says("stored").says("ttl=60");
        assert_eq!(asked_for(&tier), asked("bytes=5-"));
        tier.keeps("/a", "0123456789").await;
    }
}

#[tokio::test]
async fn a_stale_part_does_not_stand_in_for_a_failing_origin() {
    for tier in standard().await {
        tier.origin.reply("/a", part(0, 4).cache("stale-if-error=600, stale-while-revalidate=600"));
        range(&tier, "0-4").await.status(206).says("stored");
        is_kept(|| range(&tier, "0-4"), "01234").await;
        tier.clock.advance(secs(61));
        tier.origin.reply("/a", Reply::new("broken").status(503));
        range(&tier, "0-4").await.status(503).is("broken");
        tier.get("/a").await.status(503).is("broken");
    }
}

#[tokio::test]
async fn a_rest_that_breaks_off_is_an_error_and_leaves_the_part_as_it_was() {
    for tier in with_first_half().await {
        let (reply, sending) = Reply::sending();
        let rest = reply.status(206).with("content-range", "bytes 5-9/10").with("etag", "\"1\"").with("content-length", "5");
        tier.origin.reply("/a", rest);
        let asked_whole = tier.get("/a").spawn();
        tier.origin.arrived("/a", 2).await;
        sending.send("56");
        sending.cut();
        asked_whole.await.unwrap().status(502).forwarded("partial").says("detail=origin-body-incomplete").does_not_say("stored");
        range(&tier, "0-4").await.status(206).is("01234").hit(tier.name);
        // And so does one that is not as long as it says it is.
        tier.origin.reply("/a", partial("5678", "bytes 5-9/10").with("etag", "\"1\""));
        tier.get("/a").await.status(502).says("detail=origin-body-incomplete");
        range(&tier, "0-4").await.status(206).is("01234").hit(tier.name);
        tier.origin.reply("/a", part(5, 9));
        tier.get("/a").await.status(200).is("0123456789").says("stored");
    }
}

#[tokio::test]
async fn an_origin_that_is_gone_leaves_the_part_as_it_was() {
    for tier in with_first_half().await {
        tier.network.leave().await;
        tier.get("/a").await.status(502).forwarded("partial").says("detail=origin-unreachable");
        range(&tier, "0-4").await.status(206).is("01234").hit(tier.name);
    }
}

#[tokio::test]
async fn a_part_says_nothing_to_a_head() {
    for tier in with_first_half().await {
        tier.origin.reply("/a", Reply::new("0123456789").with("etag", "\"1\"").cache("max-age=60"));
        let got = tier.ask("HEAD", "/a").await;
        got.status(200).is("").has("content-length", "10").forwarded("partial").says("detail=head");
        assert_eq!(tier.origin.last("/a").method, "HEAD");
    }
}

#[tokio::test]
async fn a_rule_is_about_whole_responses() {
    for tier in both_tiers().await {
        tier.origin.reply("/a", Reply::new("0123456789").with("etag", "\"1\""));
        range(&tier, "0-4").await.status(206).is("01234").forwarded("uri-miss").says("stored");
        assert_eq!(asked_for(&tier), (None, None));
        tier.keeps("/a", "0123456789").await;
        tier.get("/a").await.status(200).is("0123456789").hit(tier.name);
    }
}

#[tokio::test]
async fn the_variants_of_a_part_lie_side_by_side() {
    for tier in standard().await {
        let ask = |language: &str, range: &str| tier.get("/a").with("accept-language", language).with("range", range);
        for (language, octets) in [("de", "hallo"), ("en", "hello")] {
            let tag = format!("\"{language}\"");
            tier.origin.reply("/a", partial(octets, "bytes 0-4/10").with("etag", &tag).with("vary", "accept-language"));
            ask(language, "bytes=0-4").await.status(206).is(octets).says("stored");
            is_kept(|| ask(language, "bytes=0-4"), octets).await;
        }
        ask("de", "bytes=0-4").await.status(206).is("hallo").hit(tier.name);
        tier.origin.reply("/a", partial("world", "bytes 5-9/10").with("etag", "\"en\"").with("vary", "accept-language"));
        tier.get("/a").with("accept-language", "en").await.status(200).is("helloworld").forwarded("partial");
        let seen = tier.origin.last("/a");
        assert_eq!((seen.field("range").as_deref(), seen.field("if-range").as_deref()), (Some("bytes=5-"), Some("\"en\"")));
    }
}
