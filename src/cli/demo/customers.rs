//! What the demo's backend knows about its customers: all of it follows from the id.

use super::random::Random;
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

/// The profile of a customer.
pub(super) fn profile(id: &str) -> Value {
    let mut random = of(id, "profile");
    let (first, last) = (random.pick(FIRST_NAMES), random.pick(LAST_NAMES));
    let (city, country) = CITIES[random.within(0, CITIES.len() as u64) as usize];
    let plan = random.pick(&["basic", "standard", "premium", "family"]);
    let orders: Vec<Value> = (0..random.within(8, 15)).map(|_| order(&mut random)).collect();
    let tickets: Vec<Value> = (0..random.within(2, 5)).map(|_| ticket(&mut random)).collect();
    json!({
        "customer_id": id,
        "name": { "first": first, "last": last },
        "email": format!("{}.{}@example.com", first.to_lowercase(), last.to_lowercase()),
        "phone": format!("+49 30 {:07}", random.within(1_000_000, 10_000_000)),
        "address": {
            "street": format!("{} {}", random.pick(STREETS), random.within(1, 180)),
            "postal_code": format!("{:05}", random.within(10_000, 99_999)),
            "city": city,
            "country": country,
        },
        "segment": random.pick(&["consumer", "small-business", "enterprise"]),
        "language": random.pick(&["de", "en", "fr", "nl"]),
        "customer_since": date(&mut random, 2014, 2024),
        "subscription": {
            "plan": plan,
            "status": random.pick(&["active", "active", "active", "paused"]),
            "monthly_fee": cents(&mut random, 999, 7_999),
            "renews_on": date(&mut random, 2026, 2027),
            "payment_method": random.pick(&["card", "direct-debit", "invoice"]),
        },
        "consents": {
            "newsletter": random.within(0, 2) == 1,
            "profiling": random.within(0, 2) == 1,
            "third_parties": random.within(0, 8) == 1,
        },
        "lifetime_value": cents(&mut random, 10_000, 900_000),
        "recent_orders": orders,
        "tickets": tickets,
    })
}

/// The prediction whether a customer is about to leave.
pub(super) fn churn_risk(id: &str) -> Value {
    let mut random = of(id, "churn-risk");
    let probability = random.within(10, 990) as f64 / 1000.0;
    let band = match probability {
        low if low < 0.3 => "low",
        medium if medium < 0.6 => "medium",
        _ => "high",
    };
    let factor = |(name, meaning): &(&str, &str)| {
        json!({
            "feature": name,
            "meaning": meaning,
            "value": random.within(0, 10_000) as f64 / 100.0,
            "contribution": (random.within(0, 4_000) as f64 - 2_000.0) / 10_000.0,
        })
    };
    let factors: Vec<Value> = FEATURES.iter().map(factor).collect();
    let history: Vec<Value> = (1..=12)
        .map(|month| json!({ "month": format!("2025-{month:02}"), "probability": random.within(10, 990) as f64 / 1000.0 }))
        .collect();
    let actions: Vec<Value> = (0..3)
        .map(|_| json!({ "action": random.pick(ACTIONS), "expected_uplift": random.within(5, 250) as f64 / 1000.0 }))
        .collect();
    json!({
        "customer_id": id,
        "model": { "name": "churn-gbt", "version": "2025.11.2", "trained_on": "2025-11-03", "horizon_days": 90 },
        "probability": probability,
        "band": band,
        "confidence_interval": [(probability - 0.05).max(0.0), (probability + 0.05).min(1.0)],
        "factors": factors,
        "history": history,
        "recommended_actions": actions,
    })
}

fn of(id: &str, what: &str) -> Random {
    Random::new(xxh3_64(format!("{what}/{id}").as_bytes()))
}

fn order(random: &mut Random) -> Value {
    let line = |random: &mut Random| {
        json!({
            "product": random.pick(PRODUCTS),
            "quantity": random.within(1, 4),
            "price": cents(random, 490, 19_900),
        })
    };
    let lines: Vec<Value> = (0..random.within(1, 4)).map(|_| line(random)).collect();
    json!({
        "order_id": format!("O-{}", random.within(1_000_000, 9_999_999)),
        "ordered_on": date(random, 2023, 2026),
        "status": random.pick(&["delivered", "delivered", "shipped", "returned"]),
        "lines": lines,
    })
}

fn ticket(random: &mut Random) -> Value {
    json!({
        "ticket_id": format!("T-{}", random.within(100_000, 999_999)),
        "opened_on": date(random, 2024, 2026),
        "subject": random.pick(SUBJECTS),
        "status": random.pick(&["closed", "closed", "open"]),
        "satisfaction": random.within(1, 6),
    })
}

fn date(random: &mut Random, from: u64, to: u64) -> String {
    format!("{}-{:02}-{:02}", random.within(from, to), random.within(1, 13), random.within(1, 29))
}

fn cents(random: &mut Random, from: u64, to: u64) -> f64 {
    random.within(from, to) as f64 / 100.0
}

const FIRST_NAMES: &[&str] = &[
    "Aylin", "Ben", "Clara", "David", "Elif", "Finn", "Greta", "Hannah", "Ida", "Jonas", "Katja", "Leo", "Mila", "Noah", "Olga",
    "Paul", "Rosa", "Samir", "Thea", "Yusuf",
];

const LAST_NAMES: &[&str] = &[
    "Albers", "Brandt", "Celik", "Dubois", "Ernst", "Fischer", "Gruber", "Haas", "Ivanova", "Jansen", "Keller", "Lange", "Meyer",
    "Novak", "Okafor", "Peters", "Richter", "Schulz", "Tran", "Vogel",
];

const CITIES: &[(&str, &str)] =
    &[("Berlin", "DE"), ("Hamburg", "DE"), ("Köln", "DE"), ("Wien", "AT"), ("Zürich", "CH"), ("Lyon", "FR"), ("Utrecht", "NL")];

const STREETS: &[&str] = &["Ahornallee", "Bahnhofstraße", "Gartenweg", "Hafenstraße", "Lindenallee", "Marktplatz", "Ringstraße"];

const PRODUCTS: &[&str] = &[
    "Fibre 250 connection",
    "Mesh repeater",
    "Mobile flat 20 GB",
    "Router AX5400",
    "Set-top box",
    "Smart plug, pack of four",
    "Sports channel package",
    "Streaming bundle",
    "USB-C charger 65 W",
];

const SUBJECTS: &[&str] = &[
    "Invoice shows a fee that I cannot place",
    "Connection drops in the evening",
    "Change of address",
    "Request to cancel an option",
    "Technician did not come",
    "Question about roaming",
];

const FEATURES: &[(&str, &str)] = &[
    ("tenure_months", "Months since the first contract"),
    ("days_since_last_login", "Days since the customer last used the self-service portal"),
    ("tickets_90d", "Support tickets opened in the last 90 days"),
    ("avg_satisfaction", "Mean satisfaction over all closed tickets"),
    ("usage_trend_30d", "Change of usage against the month before, in percent"),
    ("late_payments_12m", "Late payments in the last twelve months"),
    ("contract_end_days", "Days until the contract could be cancelled"),
    ("price_vs_market", "Monthly fee against comparable offers, in percent"),
    ("outages_30d", "Outages in the customer's area in the last 30 days"),
    ("competitor_coverage", "Share of the area that competitors can serve, in percent"),
];

const ACTIONS: &[&str] = &[
    "Call by the retention team",
    "Offer the next larger plan at the present price",
    "Send a voucher for the anniversary",
    "Waive the fee of the last invoice",
    "Offer a technician's visit",
    "No action",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_follow_from_the_id_and_have_a_few_kilobytes() {
        for describe in [profile, churn_risk] {
            assert_eq!(describe("1001"), describe("1001"));
            assert_ne!(describe("1001"), describe("1002"));
            for id in 1000..1300 {
                let length = describe(&id.to_string()).to_string().len();
                assert!((1_500..8_000).contains(&length), "{id}: {length}");
            }
        }
    }
}
