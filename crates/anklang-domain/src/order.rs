//! Orders that were taken here, and what the tenant's ERP makes of them.

/// How far an order is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderState {
    /// It was taken; the ERP has not acknowledged it.
    Taken,
    /// Final: the ERP has it.
    Accepted,
    /// Final: the ERP does not take it.
    Rejected,
}

impl OrderState {
    /// The word that is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            OrderState::Taken => "taken",
            OrderState::Accepted => "accepted",
            OrderState::Rejected => "rejected",
        }
    }

    /// The state of that word; `None` for an order that was not taken here.
    pub fn parse(word: &str) -> Option<OrderState> {
        [
            OrderState::Taken,
            OrderState::Accepted,
            OrderState::Rejected,
        ]
        .into_iter()
        .find(|state| state.as_str() == word)
    }
}

/// What the ERP says of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledgement<'a> {
    /// It has it, under this number; the order's own when empty.
    Accepted {
        /// The number.
        number: &'a str,
    },
    /// It does not take it.
    Rejected {
        /// Why, in words.
        reason: &'a str,
    },
}

/// What follows from an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledged {
    /// The order comes into this state.
    Becomes(OrderState),
    /// It was said before.
    AsBefore,
    /// It cannot be, for this reason.
    Refused(&'static str),
}

/// Decides about an acknowledgement of the order in that state and with that number; `None` is the state
/// of one that was not taken here. The first one holds; the same again changes nothing.
pub fn acknowledge(
    state: Option<OrderState>,
    number: &str,
    said: Acknowledgement<'_>,
) -> Acknowledged {
    match (state, said) {
        (None, _) => Acknowledged::Refused("it was not taken here"),
        (Some(OrderState::Taken), Acknowledgement::Accepted { .. }) => {
            Acknowledged::Becomes(OrderState::Accepted)
        }
        (Some(OrderState::Taken), Acknowledgement::Rejected { .. }) => {
            Acknowledged::Becomes(OrderState::Rejected)
        }
        (Some(OrderState::Accepted), Acknowledgement::Accepted { number: other }) => {
            match other.is_empty() || other == number {
                true => Acknowledged::AsBefore,
                false => Acknowledged::Refused("it was accepted under another number"),
            }
        }
        (Some(OrderState::Accepted), Acknowledgement::Rejected { .. }) => {
            Acknowledged::Refused("it was accepted")
        }
        (Some(OrderState::Rejected), Acknowledgement::Rejected { .. }) => Acknowledged::AsBefore,
        (Some(OrderState::Rejected), Acknowledgement::Accepted { .. }) => {
            Acknowledged::Refused("it was rejected")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YES: Acknowledgement<'_> = Acknowledgement::Accepted { number: "" };
    const NO: Acknowledgement<'_> = Acknowledgement::Rejected { reason: "leer" };

    fn under(number: &str) -> Acknowledgement<'_> {
        Acknowledgement::Accepted { number }
    }

    #[test]
    fn the_first_acknowledgement_holds() {
        let after = |state, said| acknowledge(Some(state), "4711", said);
        for said in [YES, under("4711"), under("815")] {
            let becomes = Acknowledged::Becomes(OrderState::Accepted);
            assert_eq!(after(OrderState::Taken, said), becomes);
        }
        let becomes = Acknowledged::Becomes(OrderState::Rejected);
        assert_eq!(after(OrderState::Taken, NO), becomes);
        for said in [YES, under("4711")] {
            assert_eq!(after(OrderState::Accepted, said), Acknowledged::AsBefore);
        }
        assert_eq!(after(OrderState::Rejected, NO), Acknowledged::AsBefore);
        for (state, said) in [
            (OrderState::Accepted, NO),
            (OrderState::Accepted, under("815")),
            (OrderState::Rejected, YES),
        ] {
            let refused = matches!(after(state, said), Acknowledged::Refused(_));
            assert!(refused, "{state:?} {said:?}");
        }
    }

    #[test]
    fn what_was_not_taken_here_is_not_acknowledged() {
        for said in [YES, NO] {
            assert!(matches!(
                acknowledge(OrderState::parse(""), "4711", said),
                Acknowledged::Refused(_)
            ));
        }
    }

    #[test]
    fn words_are_read_back() {
        for state in [
            OrderState::Taken,
            OrderState::Accepted,
            OrderState::Rejected,
        ] {
            assert_eq!(OrderState::parse(state.as_str()), Some(state));
        }
    }
}
