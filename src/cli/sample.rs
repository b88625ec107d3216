//! `bgrs-server sample`: plausible campaigns and scans, so that anyone can try long calls. The same seed makes the
//! same.

use bgrs::store::{CampaignChange, Campaigns, NewScan};
use bgrs::{Config, app};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::{SignedDuration, Timestamp};

use super::{Failure, say};

/// Scans stored in one act.
const BATCH: u64 = 5000;

/// The year that the scans are spread over; a fixed one, so that the same seed makes the same.
const BEGIN: &str = "2025-01-01T00:00:00Z";
const SECONDS: u64 = 365 * 24 * 60 * 60;

/// Devices and countries, each with its share.
const DEVICES: [(&str, u32); 5] = [("iPhone", 41), ("Galaxy", 30), ("Pixel", 12), ("Xiaomi", 11), ("Fairphone", 6)];
const COUNTRIES: [(&str, u32); 8] =
    [("DE", 30), ("US", 22), ("FR", 14), ("GB", 12), ("ES", 8), ("IT", 7), ("NL", 4), ("AT", 3)];

/// How much, and which.
#[derive(Args)]
pub struct Arguments {
    /// How many scans.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    scans: u64,
    /// How many campaigns they are of.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    campaigns: u64,
    /// The same number makes the same data.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Fills the database; also while the server runs.
pub async fn run(config: Config, arguments: &Arguments) -> Result<(), Failure> {
    let accounts = app::open_accounts(&config).await.map_err(Failure::usage)?;
    if let Some(made) = app::ensure_administrator(&accounts).await.map_err(Failure::usage)? {
        say(made);
    }
    let store = app::open_store(&config).map_err(Failure::usage)?;
    let owner = accounts.list(0, 1).await.map_err(Failure::refused)?.first().map(|user| user.id);
    let owner = owner.ok_or_else(|| Failure::refused("there is no user to own the campaigns"))?;
    let mut random = fastrand::Rng::with_seed(arguments.seed);
    let begin: Timestamp = BEGIN.parse().map_err(Failure::refused)?;
    let mut campaigns = Vec::new();
    for number in 1..=arguments.campaigns {
        let fields = CampaignChange {
            name: Some(format!("Sample campaign {number}")),
            kind: Some(random.i64(1..=3)),
            active: Some(random.u8(0..10) > 0),
            ..CampaignChange::default()
        };
        campaigns.push(store.add_campaign(owner, fields, begin).await.map_err(Failure::refused)?.id);
    }
    let bar = ProgressBar::new(arguments.scans);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} scans, {eta} to go") {
        bar.set_style(style);
    }
    let mut made = 0;
    while made < arguments.scans {
        let batch = BATCH.min(arguments.scans - made);
        let scans = (made..made + batch).map(|at| scan(&mut random, &campaigns, begin, at, arguments.scans)).collect();
        store.add_scans(scans).await.map_err(Failure::refused)?;
        made += batch;
        bar.set_position(made);
    }
    bar.finish_and_clear();
    say(format_args!("{} campaigns and {made} scans made", campaigns.len()));
    Ok(())
}

/// One scan: they come in the order of time, and the first campaigns have the most.
fn scan(random: &mut fastrand::Rng, campaigns: &[i64], begin: Timestamp, at: u64, of: u64) -> NewScan {
    let second = u128::from(at) * u128::from(SECONDS) / u128::from(of);
    // Less than a year: it fits.
    let dt = begin.saturating_add(SignedDuration::from_secs(second as i64)).unwrap_or(begin);
    let campaign = random.usize(0..campaigns.len()).min(random.usize(0..campaigns.len()));
    NewScan {
        campaign_id: campaigns[campaign],
        dt,
        device: (random.u8(0..50) > 0).then(|| pick(random, &DEVICES)),
        country: (random.u8(0..50) > 0).then(|| pick(random, &COUNTRIES)),
        matched: random.u8(0..100) < 93,
    }
}

fn pick(random: &mut fastrand::Rng, among: &[(&str, u32)]) -> String {
    let mut left = random.u32(0..among.iter().map(|(_, share)| share).sum());
    for (name, share) in among {
        if left < *share {
            return (*name).to_owned();
        }
        left -= share;
    }
    String::new()
}
