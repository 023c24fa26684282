//! Which receipt is about which message.
//!
//! A text of several segments has several ids at the centre, of which the host knows the first. It
//! is delivered when all are, and failed when one is. What is known here lives as long as the
//! instance and is bounded: the oldest are forgotten first. A receipt of what is not known is handed
//! on under its own id, by which the host knows all messages of one segment.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anklang_plugin_sdk::delivery_event::State;

use super::config::MessageIds;

/// Messages that are kept in mind: some 15 MB.
const MOST: usize = 50_000;

/// See the module's documentation.
pub(crate) struct Book {
    ids: MessageIds,
    most: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    messages: HashMap<Ticket, Parts>,
    by_id: HashMap<String, Ticket>,
    /// Oldest first.
    order: VecDeque<Ticket>,
    last: u64,
}

/// Names a message in the book.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Ticket(u64);

struct Parts {
    message_id: String,
    segments: usize,
    /// The centre's ids of those that were taken, in order, and whether they have arrived.
    taken: Vec<(String, bool)>,
}

/// What a receipt means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// This became of the message of these ids (ours, and the centre's of its first segment).
    Tell {
        message_id: String,
        provider_message_id: String,
    },
    /// Other segments are to come.
    Wait,
}

impl Book {
    pub(crate) fn new(ids: MessageIds) -> Self {
        Self {
            ids,
            most: MOST,
            inner: Mutex::default(),
        }
    }

    /// A message of so many segments is going to be sent.
    pub(crate) fn open(&self, message_id: &str, segments: usize) -> Ticket {
        let mut inner = self.inner();
        inner.last += 1;
        let ticket = Ticket(inner.last);
        let parts = Parts {
            message_id: message_id.to_owned(),
            segments,
            taken: Vec::with_capacity(segments),
        };
        inner.messages.insert(ticket, parts);
        inner.order.push_back(ticket);
        while inner.order.len() > self.most {
            inner.forget_oldest();
        }
        ticket
    }

    /// The centre took a segment of it under this id, as it stands in its answer. Returns the id as
    /// it will stand in receipts, made comparable.
    pub(crate) fn taken(&self, ticket: Ticket, id: &str) -> String {
        let id = match self.ids {
            MessageIds::HexInResponses => decimal(id, 16),
            MessageIds::HexInReceipts => decimal(id, 10),
            MessageIds::Same => id.to_owned(),
        };
        let inner = &mut *self.inner();
        if let Some(parts) = inner.messages.get_mut(&ticket).filter(|_| !id.is_empty()) {
            parts.taken.push((id.clone(), false));
            inner.by_id.insert(id.clone(), ticket);
        }
        id
    }

    /// The id of the first segment of it that was taken; empty if there is none.
    pub(crate) fn first_id(&self, ticket: Ticket) -> String {
        let inner = self.inner();
        let first = inner.messages.get(&ticket).and_then(|p| p.taken.first());
        first.map(|(id, _)| id.clone()).unwrap_or_default()
    }

    /// A receipt came that says how a segment ended.
    pub(crate) fn ended(&self, id: &str, state: State) -> Meaning {
        let id = match self.ids {
            MessageIds::HexInResponses => decimal(id, 10),
            MessageIds::HexInReceipts => decimal(id, 16),
            MessageIds::Same => id.to_owned(),
        };
        let inner = &mut *self.inner();
        let ticket = inner.by_id.get(&id);
        let Some(parts) = ticket.and_then(|ticket| inner.messages.get_mut(ticket)) else {
            return Meaning::Tell {
                message_id: String::new(),
                provider_message_id: id,
            };
        };
        for (_, arrived) in parts.taken.iter_mut().filter(|(taken, _)| *taken == id) {
            *arrived = state == State::Delivered;
        }
        let arrived = parts.taken.iter().filter(|(_, arrived)| *arrived).count();
        if state == State::Delivered && arrived < parts.segments {
            return Meaning::Wait;
        }
        // Told again for every repetition: the one before may not have reached the host.
        Meaning::Tell {
            message_id: parts.message_id.clone(),
            provider_message_id: parts.taken[0].0.clone(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // No code that can panic runs under the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn forget_oldest(&mut self) {
        let oldest = self.order.pop_front();
        let parts = oldest.and_then(|ticket| self.messages.remove(&ticket));
        for (id, _) in parts.into_iter().flat_map(|parts| parts.taken) {
            // Centres count from the beginning again some day: the id may name a newer one.
            if self.by_id.get(&id).copied() == oldest {
                self.by_id.remove(&id);
            }
        }
    }
}

/// A number to this base in decimal; what is none stays as it is.
fn decimal(id: &str, base: u32) -> String {
    u128::from_str_radix(id, base).map_or_else(|_| id.to_owned(), |number| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(message_id: &str, provider_message_id: &str) -> Meaning {
        Meaning::Tell {
            message_id: message_id.to_owned(),
            provider_message_id: provider_message_id.to_owned(),
        }
    }

    #[test]
    fn a_message_has_arrived_when_all_of_it_has() {
        let book = Book::new(MessageIds::Same);
        let ticket = book.open("ours", 3);
        book.taken(ticket, "a");
        assert_eq!(book.ended("a", State::Delivered), Meaning::Wait);
        book.taken(ticket, "b");
        book.taken(ticket, "c");
        assert_eq!(book.first_id(ticket), "a");
        assert_eq!(book.ended("c", State::Delivered), Meaning::Wait);
        // A repetition counts once.
        assert_eq!(book.ended("c", State::Delivered), Meaning::Wait);
        assert_eq!(book.ended("b", State::Delivered), tell("ours", "a"));
        assert_eq!(book.ended("b", State::Delivered), tell("ours", "a"));
    }

    #[test]
    fn a_message_has_failed_when_some_of_it_has() {
        let book = Book::new(MessageIds::Same);
        let ticket = book.open("ours", 2);
        book.taken(ticket, "a");
        book.taken(ticket, "b");
        assert_eq!(book.ended("b", State::Failed), tell("ours", "a"));
        assert_eq!(book.ended("a", State::Delivered), Meaning::Wait);
    }

    #[test]
    fn what_is_not_known_goes_by_its_own_id() {
        let book = Book::new(MessageIds::Same);
        assert_eq!(book.ended("x", State::Delivered), tell("", "x"));
        let ticket = book.open("ours", 1);
        assert_eq!(book.first_id(ticket), "");
        book.taken(ticket, "");
        assert_eq!(book.ended("", State::Delivered), tell("", ""));
    }

    #[test]
    fn ids_are_compared_as_numbers_where_the_centre_writes_them_differently() {
        let book = Book::new(MessageIds::HexInResponses);
        let ticket = book.open("ours", 1);
        assert_eq!(book.taken(ticket, "00000A3F"), "2623");
        assert_eq!(
            book.ended("0002623", State::Delivered),
            tell("ours", "2623")
        );
        let book = Book::new(MessageIds::HexInReceipts);
        let ticket = book.open("ours", 1);
        assert_eq!(book.taken(ticket, "2623"), "2623");
        assert_eq!(book.ended("a3f", State::Failed), tell("ours", "2623"));
        assert_eq!(book.taken(ticket, "not a number"), "not a number");
    }

    #[test]
    fn the_book_is_bounded() {
        let mut book = Book::new(MessageIds::Same);
        book.most = 2;
        for (message, id) in [("one", "a"), ("two", "b"), ("three", "a")] {
            let ticket = book.open(message, 1);
            book.taken(ticket, id);
        }
        // The newer of two of the same id is known, though the older is forgotten.
        assert_eq!(book.ended("a", State::Delivered), tell("three", "a"));
        assert_eq!(book.ended("b", State::Delivered), tell("two", "b"));
        let inner = book.inner();
        assert_eq!((inner.messages.len(), inner.by_id.len()), (2, 2));
    }
}
