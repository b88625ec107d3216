//! Who calls, and whose a request is.

/// Whose a background request is: users of different sources are different people, also where their ids are alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// Where the user is known: [`Owner::LOCAL`] for the server's own users.
    pub source: String,
    /// The user's id there.
    pub id: String,
}

impl Owner {
    /// The source of the server's own users.
    pub const LOCAL: &'static str = "local";

    /// One of the server's own users.
    #[must_use]
    pub fn local(user_id: i64) -> Self {
        Self { source: Self::LOCAL.to_owned(), id: user_id.to_string() }
    }

    /// The id among the server's own users, if it is one of them.
    #[must_use]
    pub fn local_id(&self) -> Option<i64> {
        (self.source == Self::LOCAL).then(|| self.id.parse().ok())?
    }
}

/// The user in whose name a call is made, in the foreground as in the background.
///
/// Handlers take it as an extractor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user's id among the server's own users.
    pub user_id: i64,
    /// Whether the user is an administrator.
    pub is_admin: bool,
    /// Whether the user may only look.
    pub read_only: bool,
}
