//! The model: what happens in a second, by formulas.
//!
//! A key that is asked for at a rate `l` by `R` replicas is fetched, lives for its time `T` and is fetched again by the first request
//! after that: a *cycle* of `T + 1/l`. Within it, each replica asks Redis when it is asked for the first time, and again whenever its
//! memory has let go of it. A purge ends the cycle early.

use crate::deployment::{Class, Deployment, Load};

/// What a deployment meets.
pub(crate) fn predict(deployment: &Deployment) -> Load {
    let classes = deployment.classes();
    let kept = deployment.kept_in_memory(&classes);
    let mut load = Load::default();
    for class in &classes {
        load.add(&of_key(deployment, class, kept), class.keys);
    }
    load
}

fn of_key(deployment: &Deployment, class: &Class, kept: f64) -> Load {
    let replicas = f64::from(deployment.replicas);
    let (all, each) = (class.rate, class.rate / replicas);
    let purges = deployment.purges * all / deployment.rate;
    // How long a stored response lives: until its time is over, or the first purge.
    let life = if purges * deployment.ttl < 1e-9 { deployment.ttl } else { -f64::exp_m1(-purges * deployment.ttl) / purges };
    let cycle = life + 1.0 / all;
    // Replicas that are asked while the first one fetches, fetch as well.
    let fetches = 1.0 + (replicas - 1.0) * -f64::exp_m1(-each * deployment.fetch);
    let asked = each * cycle;
    let first = -f64::exp_m1(-asked);
    let again = (asked - first).max(0.0) * (-each * kept).exp();
    let lookups = replicas * (first + again);
    // Who fetches had it in its life before, if that ended by itself and memory holds it still.
    let known = -f64::exp_m1(-each * kept) * (-purges * cycle).exp();
    Load {
        requests: all,
        fetches: fetches / cycle,
        renewals: fetches * known / cycle,
        lookups: lookups.max(fetches) / cycle,
        purges,
        ends: (1.0 / cycle - purges).max(0.0),
    }
}
