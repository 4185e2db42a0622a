//! The transfer windows of an AMQP session (2.5.6). All numbers wrap.

/// What this end takes.
#[derive(Debug)]
pub(crate) struct IncomingWindow {
    next_id: u32,
    size: u32,
    left: u32,
    /// The peer is told that there is no room.
    held: bool,
}

impl IncomingWindow {
    pub(crate) fn new(size: u32, peer_next_outgoing_id: u32) -> Self {
        Self { next_id: peer_next_outgoing_id, size, left: size, held: false }
    }

    /// The peer's next transfer-id, as far as known.
    pub(crate) fn next_id(&self) -> u32 {
        self.next_id
    }

    /// Transfers are taken as they come, so the whole window is free each time it is stated,
    /// unless it is held.
    pub(crate) fn size(&self) -> u32 {
        if self.held { 0 } else { self.size }
    }

    /// Holds the window shut, or lets it go; whether that is news.
    pub(crate) fn hold(&mut self, held: bool) -> bool {
        std::mem::replace(&mut self.held, held) != held
    }

    /// The peer said which transfer-id comes next, in begin or flow.
    pub(crate) fn set_next_id(&mut self, peer_next_outgoing_id: u32) {
        self.next_id = peer_next_outgoing_id;
    }

    /// Counts a transfer; false if it was beyond the window.
    pub(crate) fn take(&mut self) -> bool {
        self.next_id = self.next_id.wrapping_add(1);
        let within = self.left > 0;
        self.left = self.left.saturating_sub(1);
        within
    }

    /// Whether half of it is used up, so that it must be stated again.
    pub(crate) fn half_used(&self) -> bool {
        !self.held && self.left <= self.size / 2
    }

    /// A flow with the whole window is on its way.
    ///
    /// What the peer sent before it sees a held window stays within the one stated before.
    pub(crate) fn stated(&mut self) {
        if !self.held {
            self.left = self.size;
        }
    }
}

/// What the peer takes.
#[derive(Debug)]
pub(crate) struct OutgoingWindow {
    first_id: u32,
    next_id: u32,
    left: u32,
}

impl OutgoingWindow {
    pub(crate) fn new(first_id: u32) -> Self {
        Self { first_id, next_id: first_id, left: 0 }
    }

    /// transfer-id of the next transfer.
    pub(crate) fn next_id(&self) -> u32 {
        self.next_id
    }

    /// Transfers that may be sent.
    pub(crate) fn left(&self) -> u32 {
        self.left
    }

    /// Counts a transfer that is sent.
    pub(crate) fn take(&mut self) {
        self.next_id = self.next_id.wrapping_add(1);
        self.left = self.left.saturating_sub(1);
    }

    /// The peer's begin or flow. `next_incoming_id` is null while the peer has not seen this
    /// end's begin.
    pub(crate) fn update(&mut self, next_incoming_id: Option<u32>, window: u32) {
        let under_way = self.next_id.wrapping_sub(next_incoming_id.unwrap_or(self.first_id)) as i32;
        // A peer that claims to have seen transfers which were not sent is taken to have seen all.
        self.left = window.saturating_sub(under_way.max(0).unsigned_abs());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_of_the_peer_counts_what_is_under_way() {
        let mut window = OutgoingWindow::new(u32::MAX - 1);
        window.update(None, 5);
        for _ in 0..4 {
            window.take();
        }
        assert_eq!((window.next_id(), window.left()), (2, 1));
        window.update(Some(u32::MAX), 5);
        assert_eq!(window.left(), 2);
        window.update(Some(2), u32::MAX);
        assert_eq!(window.left(), u32::MAX);
        window.update(Some(100), 7);
        assert_eq!(window.left(), 7);
        window.update(Some(u32::MAX), 1);
        assert_eq!(window.left(), 0);
    }

    #[test]
    fn own_window_is_stated_again_at_half() {
        let mut window = IncomingWindow::new(4, u32::MAX);
        assert!(window.take());
        assert!(!window.half_used());
        assert!(window.take());
        assert!(window.half_used());
        assert_eq!(window.next_id(), 1);
        assert!(window.take() && window.take() && !window.take());
        window.stated();
        assert!(window.take());
    }

    #[test]
    fn a_held_window_is_shut_but_takes_what_was_under_way() {
        let mut window = IncomingWindow::new(3, 0);
        assert!(window.hold(true) && !window.hold(true));
        window.stated();
        assert_eq!(window.size(), 0);
        assert!(window.take() && window.take() && !window.half_used());
        assert!(window.take() && !window.take());
        assert!(window.hold(false));
        window.stated();
        assert_eq!(window.size(), 3);
        assert!(window.take());
    }
}
