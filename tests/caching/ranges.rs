//! Ranges, cut out of what is stored or is being fetched (RFC 9110 §14).

use super::tiers::{Tier, both_tiers};
use crate::world::{Gate, Got, Reply, secs};

const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// Ten octets, each of which tells its place.
fn digits() -> Reply {
    Reply::new("0123456789").with("etag", "\"1\"").with("last-modified", MODIFIED).with("content-type", "text/plain")
}

/// A world for each tier, in which a path has ten octets stored.
async fn with_digits() -> [Tier; 2] {
    let tiers = both_tiers().await;
    for tier in &tiers {
        tier.origin.reply("/a", digits());
        tier.get("/a").await.is("0123456789");
        tier.keeps("/a", "0123456789").await;
    }
    tiers
}

/// The parts of a multipart message, each with its `Content-Range` and `Content-Type` (RFC 2046 §5.1).
#[track_caller]
fn parts(got: &Got) -> Vec<(String, String, String)> {
    let content_type = got.field("content-type");
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").unwrap_or_else(|| panic!("{got:?}"));
    let text = format!("\r\n{}", got.text());
    let (parts, end) = text.split_once(&format!("\r\n--{boundary}--")).expect("the last boundary is there");
    assert_eq!(end, "\r\n");
    let delimiter = format!("\r\n--{boundary}\r\n");
    let mut parts = parts.split(&delimiter);
    assert_eq!(parts.next(), Some(""), "nothing comes before the first boundary");
    let part = |part: &str| {
        let (head, body) = part.split_once("\r\n\r\n").expect("a part has a head");
        let field = |name: &str| {
            let value = head.split("\r\n").find_map(|line| {
                let (named, value) = line.split_once(": ").expect("a line of the head is a field");
                named.eq_ignore_ascii_case(name).then(|| value.to_owned())
            });
            value.unwrap_or_default()
        };
        (field("content-range"), field("content-type"), body.to_owned())
    };
    parts.map(part).collect()
}

#[tokio::test]
async fn a_range_of_what_is_stored_is_cut_out_of_it() {
    for tier in with_digits().await {
        tier.clock.advance(secs(5));
        for (range, content_range, body) in [
            ("bytes=0-0", "bytes 0-0/10", "0"),
            ("bytes=2-5", "bytes 2-5/10", "2345"),
            ("bytes=7-", "bytes 7-9/10", "789"),
            ("bytes=7-100", "bytes 7-9/10", "789"),
            ("bytes=-3", "bytes 7-9/10", "789"),
            ("bytes=-100", "bytes 0-9/10", "0123456789"),
            ("BYTES=0-", "bytes 0-9/10", "0123456789"),
            ("bytes=3-4, 20-30", "bytes 3-4/10", "34"),
        ] {
            let got = tier.get("/a").with("range", range).await;
            got.status(206).is(body).hit(tier.name).has("content-range", content_range).has("age", "5").has("etag", "\"1\"");
            got.has("content-length", &body.len().to_string()).has("content-type", "text/plain");
        }
        assert_eq!(tier.origin.count("/a"), 1);
    }
}

#[tokio::test]
async fn several_ranges_are_a_multipart_message() {
    for tier in with_digits().await {
        let got = tier.get("/a").with("range", "bytes=0-1, -2, 4-5").await;
        got.status(206).hit(tier.name).has("content-range", "").has("content-length", &got.body().len().to_string());
        let part = |range: &str, body: &str| (format!("bytes {range}/10"), "text/plain".to_owned(), body.to_owned());
        assert_eq!(parts(&got), [part("0-1", "01"), part("8-9", "89"), part("4-5", "45")]);
    }
}

#[tokio::test]
async fn a_range_that_breaks_the_rules_or_is_none_of_octets_is_ignored() {
    for tier in with_digits().await {
        for range in ["bytes=5-2", "bytes=x-", "bytes=", "lines=1-2", "bytes 0-1", "bytes=0-9,0-9,0-9,0-9"] {
            let got = tier.get("/a").with("range", range).await;
            got.status(200).is("0123456789").hit(tier.name).has("content-range", "");
        }
    }
}

#[tokio::test]
async fn a_range_that_lies_outside_is_answered_with_the_length() {
    for tier in with_digits().await {
        for range in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=10-, 99-100"] {
            let got = tier.get("/a").with("range", range).await;
            got.status(416).has("content-range", "bytes */10").hit(tier.name);
        }
        tier.get("/a").await.status(200).is("0123456789").hit(tier.name);
        assert_eq!(tier.origin.count("/a"), 1);
    }
}

#[tokio::test]
async fn a_range_depends_on_the_clients_part_being_of_the_same() {
    for tier in with_digits().await {
        for (validator, holds) in [
            ("\"1\"", true),
            ("W/\"1\"", false),
            ("\"2\"", false),
            (MODIFIED, true),
            ("Sun, 06 Nov 1994 08:49:38 GMT", false),
            ("Sun, 06 Nov 1994 08:49:36 GMT", false),
            ("yesterday", false),
        ] {
            let got = tier.get("/a").with("range", "bytes=2-3").with("if-range", validator).await;
            match holds {
                true => got.status(206).is("23").has("content-range", "bytes 2-3/10"),
                false => got.status(200).is("0123456789").has("content-range", ""),
            };
            got.hit(tier.name);
        }
        // Where it does not hold, what lies outside is no error.
        tier.get("/a").with("range", "bytes=20-").with("if-range", "\"2\"").await.status(200).is("0123456789");
        assert_eq!(tier.origin.count("/a"), 1);
    }
}

#[tokio::test]
async fn no_range_depends_on_a_weak_tag_or_a_date_that_says_too_little() {
    for tier in both_tiers().await {
        tier.origin.reply("/weak", Reply::new("0123456789").with("etag", "W/\"1\""));
        let just_now =
            Reply::new("0123456789").with("last-modified", MODIFIED).with("date", MODIFIED).cache("max-age=2000000000");
        tier.origin.reply("/just-now", just_now);
        for (path, validators) in [("/weak", ["W/\"1\"", "\"1\""]), ("/just-now", [MODIFIED, "\"1\""])] {
            tier.get(path).await.is("0123456789").says("stored");
            tier.keeps(path, "0123456789").await;
            for validator in validators {
                tier.get(path).with("range", "bytes=2-3").with("if-range", validator).await.status(200).is("0123456789");
            }
            tier.get(path).with("range", "bytes=2-3").await.status(206).is("23");
        }
    }
}

#[tokio::test]
async fn a_range_of_a_head_or_of_what_is_no_success_is_ignored() {
    for tier in both_tiers().await {
        tier.origin.reply("/a", digits());
        tier.origin.reply("/none", Reply::new("not here").status(404).cache("max-age=60"));
        for (path, status, body) in [("/a", 200, "0123456789"), ("/none", 404, "not here")] {
            tier.get(path).with("range", "bytes=1-2").await.status(if status == 200 { 206 } else { 404 });
            tier.get(path).await.status(status).is(body);
            if status == 200 {
                tier.keeps(path, body).await;
            }
        }
        tier.keeps_number(2).await;
        for range in ["bytes=1-2", "bytes=100-"] {
            let got = tier.ask("HEAD", "/a").with("range", range).await;
            got.status(200).is("").has("content-length", "10").has("content-range", "").hit(tier.name);
            let got = tier.get("/none").with("range", range).await;
            got.status(404).is("not here").has("content-range", "").hit(tier.name);
            let got = tier.ask("HEAD", "/none").with("range", range).await;
            got.status(404).is("").has("content-length", "8").has("content-range", "").hit(tier.name);
        }
    }
}

#[tokio::test]
async fn a_client_that_has_it_all_is_told_so_before_its_range_is_looked_at() {
    for tier in with_digits().await {
        for (condition, value, status) in [
            ("if-none-match", "\"1\"", 304),
            ("if-none-match", "\"2\"", 206),
            ("if-modified-since", MODIFIED, 304),
            ("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT", 206),
        ] {
            let got = tier.get("/a").with(condition, value).with("range", "bytes=2-3").await;
            got.status(status).is(if status == 304 { "" } else { "23" }).hit(tier.name);
            let outside = tier.get("/a").with(condition, value).with("range", "bytes=20-").await;
            outside.status(if status == 304 { 304 } else { 416 });
        }
    }
}

#[tokio::test]
async fn a_range_of_what_is_being_fetched_ends_before_the_rest_has_come() {
    for tier in both_tiers().await {
        let (reply, sending) = Reply::sending();
        tier.origin.reply("/a", reply.with("content-length", "10").with("etag", "\"1\""));
        let leader = tier.get("/a").with("range", "bytes=1-3").spawn();
        tier.origin.arrived("/a", 1).await;
        assert_eq!(tier.origin.last("/a").field("range"), None);
        sending.send("01");
        sending.send("234");
        let got = leader.await.unwrap();
        got.status(206).is("123").forwarded("uri-miss").says("stored").has("content-range", "bytes 1-3/10");

        let follow = |range: &str| tier.get("/a").with("range", range);
        let got = follow("bytes=4-4").await;
        got.status(206).is("4").says("collapsed").has("content-range", "bytes 4-4/10").has("content-length", "1");
        follow("bytes=2-3").with("if-range", "\"1\"").await.status(206).is("23").says("collapsed");
        follow("bytes=10-").await.status(416).has("content-range", "bytes */10");
        follow("bytes=2-3").with("if-none-match", "\"1\"").await.status(304).is("");
        let last = follow("bytes=-2").streaming().await;
        let several = follow("bytes=0-0, 2-2").streaming().await;
        let of_another = follow("bytes=2-3").with("if-range", "\"2\"").streaming().await;
        sending.send("56789");
        drop(sending);
        last.whole().await.status(206).is("89").says("collapsed").has("content-range", "bytes 8-9/10");
        // Several parts would have to wait for all of it.
        several.whole().await.status(200).is("0123456789").says("collapsed");
        of_another.whole().await.status(200).is("0123456789").says("collapsed");
        tier.keeps("/a", "0123456789").await;
        assert_eq!(tier.origin.count("/a"), 1);
    }
}

#[tokio::test]
async fn a_range_that_has_come_is_whole_also_if_the_rest_breaks_off() {
    for tier in both_tiers().await {
        let (reply, sending) = Reply::sending();
        tier.origin.reply("/a", reply.with("content-length", "10"));
        sending.send("01234");
        let mut beyond = tier.get("/a").with("range", "bytes=3-8").streaming().await;
        assert_eq!(beyond.next().await, "34");
        tier.get("/a").with("range", "bytes=1-3").await.status(206).is("123").says("collapsed");
        sending.cut();
        beyond.whole().await.is_broken();
        tier.has_fetched().await;
        tier.origin.reply("/a", digits());
        tier.get("/a").await.is("0123456789").forwarded("uri-miss");
    }
}

#[tokio::test]
async fn a_body_without_an_announced_length_is_given_whole_while_it_comes_and_in_ranges_once_it_is_stored() {
    for tier in both_tiers().await {
        let (reply, sending) = Reply::sending();
        tier.origin.reply("/a", reply);
        let leader = tier.get("/a").with("range", "bytes=1-3").spawn();
        tier.origin.arrived("/a", 1).await;
        sending.send("01234");
        let mut follower = tier.get("/a").with("range", "bytes=100-").streaming().await;
        assert_eq!((follower.status.as_u16(), follower.next().await.as_str()), (200, "01234"));
        sending.send("56789");
        drop(sending);
        leader.await.unwrap().status(200).is("0123456789").has("content-range", "");
        follower.whole().await.is("56789");
        tier.keeps("/a", "0123456789").await;
        tier.get("/a").with("range", "bytes=1-3").await.status(206).is("123").hit(tier.name).has("content-range", "bytes 1-3/10");
    }
}

#[tokio::test]
async fn a_range_of_a_stale_response_is_cut_out_of_what_the_origin_confirms_or_replaces_it_with() {
    for tier in with_digits().await {
        tier.clock.advance(secs(61));
        tier.origin.reply("/a", Reply::new("").status(304).with("etag", "\"1\""));
        let got = tier.get("/a").with("range", "bytes=1-2").await;
        got.status(206).is("12").forwarded("stale").says("fwd-status=304").has("content-range", "bytes 1-2/10");
        assert_eq!(tier.origin.last("/a").field("range"), None);
        tier.keeps("/a", "0123456789").await;

        tier.clock.advance(secs(61));
        tier.origin.reply("/a", Reply::new("abcdefgh").with("etag", "\"2\"").cache("max-age=60, stale-if-error=60"));
        let got = tier.get("/a").with("range", "bytes=1-2").await;
        got.status(206).is("bc").forwarded("stale").says("stored").has("content-range", "bytes 1-2/8");
        tier.keeps("/a", "abcdefgh").await;

        tier.clock.advance(secs(61));
        tier.origin.reply("/a", Reply::new("broken").status(503));
        let got = tier.get("/a").with("range", "bytes=1-2").await;
        got.status(206).is("bc").says("detail=stale-if-error").has("content-range", "bytes 1-2/8");
    }
}

#[tokio::test]
async fn who_follows_gets_the_range_of_a_fetch_that_was_begun_for_the_whole() {
    for tier in both_tiers().await {
        let gate = Gate::closed();
        tier.origin.reply("/a", digits().behind(&gate));
        let leader = tier.get("/a").spawn();
        tier.origin.arrived("/a", 1).await;
        let follower = tier.get("/a").with("range", "bytes=-4").spawn();
        tier.followed_by(1).await;
        gate.open();
        leader.await.unwrap().status(200).is("0123456789");
        follower.await.unwrap().status(206).is("6789").has("content-range", "bytes 6-9/10");
        assert_eq!(tier.origin.count("/a"), 1);
    }
}
