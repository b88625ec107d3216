//! Campaigns and their scans, as rows.

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::Result;

/// A campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Campaign {
    /// Never used again after the campaign is gone.
    pub id: i64,
    /// Whose it is.
    pub user_id: i64,
    /// Its kind, a number of the API's users.
    pub kind: i64,
    /// Its name.
    pub name: String,
    /// A longer text.
    pub description: Option<String>,
    /// Whether it is running.
    pub active: bool,
    /// When it was made, as the interface shows it.
    pub created: String,
    /// When it was last changed.
    pub updated: String,
}

/// Fields of a campaign to write: `None` leaves one as it is, or at its default.
#[derive(Debug, Clone, Default)]
pub struct CampaignChange {
    /// Another owner.
    pub user_id: Option<i64>,
    /// Another kind.
    pub kind: Option<i64>,
    /// Another name.
    pub name: Option<String>,
    /// Another text; `Some(None)` clears it.
    pub description: Option<Option<String>>,
    /// Whether it is running.
    pub active: Option<bool>,
}

/// One recognition of a campaign's picture by a phone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// Grows with the order in which scans were stored.
    pub id: i64,
    /// The campaign.
    pub campaign_id: i64,
    /// When, as the interface shows it.
    pub dt: String,
    /// The phone.
    pub device: Option<String>,
    /// The country.
    pub country: Option<String>,
    /// Whether the picture was found.
    pub matched: bool,
}

/// A scan to be stored.
#[derive(Debug, Clone)]
pub struct NewScan {
    /// The campaign; it exists.
    pub campaign_id: i64,
    /// When.
    pub dt: Timestamp,
    /// The phone.
    pub device: Option<String>,
    /// The country.
    pub country: Option<String>,
    /// Whether the picture was found.
    pub matched: bool,
}

/// Which scans.
#[derive(Debug, Clone, Default)]
pub struct ScanFilter {
    /// Only those of campaigns of this user.
    pub user_id: Option<i64>,
    /// Only those of this campaign.
    pub campaign_id: Option<i64>,
    /// Only those at or after this time, as the interface shows times.
    pub since: Option<String>,
    /// Only those before this time.
    pub until: Option<String>,
}

/// By what scans are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The day, UTC.
    Day,
    /// The phone.
    Device,
    /// The country.
    Country,
}

/// A line of a statistic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// The day, phone or country.
    pub key: Option<String>,
    /// Scans in all.
    pub scans: i64,
    /// Scans in which the picture was found.
    pub matched: i64,
}

/// Scans on their way out of the store, and how many there are in all.
pub struct Export {
    /// All that match.
    pub total: u64,
    /// In batches, by id. One that is not taken for a minute ends the export with an error.
    pub batches: mpsc::Receiver<Result<Vec<Scan>>>,
}

/// Is told how many of how many rows a long look has seen.
pub type OnRows = Box<dyn Fn(u64, u64) + Send>;

/// Campaigns and scans, durable.
#[async_trait]
pub trait Campaigns: Send + Sync {
    /// Up to `limit` campaigns, of a user or of all, with an id above `after`, by id.
    async fn campaigns(&self, user_id: Option<i64>, after: i64, limit: usize) -> Result<Vec<Campaign>>;

    /// Looks a campaign up.
    async fn campaign(&self, id: i64) -> Result<Option<Campaign>>;

    /// Makes a campaign of this user, who exists.
    async fn add_campaign(&self, user_id: i64, fields: CampaignChange, now: Timestamp) -> Result<Campaign>;

    /// Writes fields; `None`: no such campaign.
    async fn change_campaign(&self, id: i64, fields: CampaignChange, now: Timestamp) -> Result<Option<Campaign>>;

    /// Removes up to `limit` of a campaign's scans, and with the last of them the campaign: `true` once it is gone.
    async fn remove_campaign(&self, id: i64, limit: usize) -> Result<bool>;

    /// Stores a scan; `None` where its campaign is gone.
    async fn add_scan(&self, new: NewScan) -> Result<Option<Scan>>;

    /// Stores many scans in one act.
    async fn add_scans(&self, new: Vec<NewScan>) -> Result<()>;

    /// Up to `limit` scans with an id above `after`, by id.
    async fn scans(&self, filter: ScanFilter, after: i64, limit: usize) -> Result<Vec<Scan>>;

    /// All scans that match as of this moment, in one snapshot, however long it takes.
    async fn export(&self, filter: ScanFilter) -> Result<Export>;

    /// Counts the scans that match, ordered by key, in one snapshot.
    async fn statistics(&self, filter: ScanFilter, by: By, on_rows: OnRows) -> Result<Vec<Count>>;
}
