//! Answers.

/// An answer to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// `Content-Type`; none where there is no body.
    pub content_type: Option<&'static str>,
    /// The body.
    pub body: String,
}

impl Reply {
    /// 200 without a body: what a deletion must be answered with, and not with 204 (admin.md 0.1).
    #[must_use]
    pub const fn deleted() -> Self {
        Self { status: 200, content_type: None, body: String::new() }
    }

    pub(crate) const fn entry(status: u16, body: String) -> Self {
        Self { status, content_type: Some("application/atom+xml;type=entry;charset=utf-8"), body }
    }

    pub(crate) const fn feed(body: String) -> Self {
        Self { status: 200, content_type: Some("application/atom+xml;type=feed;charset=utf-8"), body }
    }
}
