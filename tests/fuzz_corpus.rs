//! The corpora of the fuzz targets, each file of them once more: what was found there must not come back.

#[path = "../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "the fuzz targets reach it")]
mod properties;

use std::fs;
use std::path::Path;

type Property = fn(&[u8]);

#[test]
fn what_the_fuzzer_has_tried_still_holds() {
    let targets: [(&str, Property); 8] = [
        ("cache_control", properties::cache_control),
        ("date", properties::date),
        ("vary", properties::vary),
        ("range", properties::range),
        ("structured", properties::structured),
        ("record", properties::record),
        ("framing", properties::framing),
        ("lines", properties::lines),
    ];
    for (target, property) in targets {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut number = 0;
        for file in fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display())) {
            property(&fs::read(file.unwrap().path()).unwrap());
            number += 1;
        }
        assert!(number > 0, "{} is empty", corpus.display());
    }
}
