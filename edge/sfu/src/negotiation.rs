//! Whose turn it is to offer. It must not know session descriptions: it only says what to do with them.
//!
//! Rules (SDP itself allows one offer at a time, RFC 3264, section 4):
//! - we offer only when nothing is outstanding, the client has offered or had its time to, and the connection stands;
//! - an answer leaves before our next offer, because the caller runs one step at a time;
//! - on glare the client is the polite side (W3C, "perfect negotiation"). A polite client takes its own offer back and answers
//!   ours, so its colliding offer is put aside. A client that ignores ours waits for an answer instead: after [`GLARE_WAIT`],
//!   or at its second offer, we take our offer back, answer the one put aside, and offer again.

use std::time::{Duration, Instant};

/// How long a polite client has for answering our offer after its own collided: some round trips of a bad line. A client that
/// will never answer waits for this long.
pub(crate) const GLARE_WAIT: Duration = Duration::from_secs(2);
/// How long a new session has for its own first offer before we make one, so that the usual client, which offers at once,
/// never meets glare at its start.
pub(crate) const FIRST_OFFER_WAIT: Duration = Duration::from_secs(1);
/// How long an offer of ours waits for an answer before it is taken back and made again: a client that was busy for so long
/// has probably lost it.
pub(crate) const ANSWER_WAIT: Duration = Duration::from_secs(20);

/// Which side may offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manners {
    /// Both.
    BothOffer,
    /// Only the client: WHIP and WHEP.
    ClientOffers,
}

#[derive(Debug)]
enum State {
    /// Nothing agreed yet; our own offer may go out from then on, or never.
    Fresh { ours_from: Option<Instant> },
    /// The last exchange is complete.
    Stable,
    /// Our offer is out.
    Offered { since: Instant, aside: Option<Aside> },
}

/// A colliding offer of the client.
#[derive(Debug)]
struct Aside {
    sdp: String,
    at: Instant,
}

/// What to do with an offer of the client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OnOffer {
    /// Answer this one.
    Answer(String),
    /// Take ours back, then answer this one.
    RollBackAndAnswer(String),
    /// Wait for the answer to ours.
    PutAside,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Make an offer.
    Offer,
    /// Take ours back, then answer this one.
    RollBackAndAnswer(String),
    /// Take ours back; it is made again at the next look.
    RollBack,
}

/// The exchange of descriptions with one client.
#[derive(Debug)]
pub(crate) struct Negotiation {
    manners: Manners,
    state: State,
    wanted: bool,
}

impl Negotiation {
    pub(crate) fn new(manners: Manners, now: Instant) -> Self {
        Self { manners, state: State::Fresh { ours_from: Some(now + FIRST_OFFER_WAIT) }, wanted: false }
    }

    /// One of a session in another's place. The client's old connection cannot take our offer: its sections and numbers are of the
    /// former session. Only the client knows when it has a new one, and tells by its offer.
    pub(crate) fn renewed(manners: Manners) -> Self {
        Self { manners, state: State::Fresh { ours_from: None }, wanted: false }
    }

    /// Something has changed that the client must be told.
    pub(crate) fn want(&mut self) {
        self.wanted = self.manners == Manners::BothOffer;
    }

    /// The client offers.
    pub(crate) fn on_offer(&mut self, now: Instant, sdp: String) -> OnOffer {
        match &mut self.state {
            State::Fresh { .. } | State::Stable => OnOffer::Answer(sdp),
            State::Offered { aside: aside @ None, .. } => {
                *aside = Some(Aside { sdp, at: now });
                OnOffer::PutAside
            }
            State::Offered { aside: Some(_), .. } => {
                self.rolled_back();
                OnOffer::RollBackAndAnswer(sdp)
            }
        }
    }

    /// Whether an answer is waited for.
    pub(crate) fn awaits_answer(&self) -> bool {
        matches!(self.state, State::Offered { .. })
    }

    /// An exchange is complete, whoever began it. An offer put aside is void: its client has taken it back.
    pub(crate) fn completed(&mut self) {
        self.state = State::Stable;
    }

    /// Our offer has left.
    pub(crate) fn offered(&mut self, now: Instant) {
        self.wanted = false;
        self.state = State::Offered { since: now, aside: None };
    }

    fn rolled_back(&mut self) {
        self.state = State::Stable;
        self.wanted = true;
    }

    /// What is due now. `standing`: whether packets reach the client, without which we do not offer after the first exchange.
    pub(crate) fn due(&mut self, now: Instant, standing: Standing) -> Option<Due> {
        match &mut self.state {
            State::Fresh { ours_from } => {
                let is_time = ours_from.is_some_and(|from| now >= from);
                (self.wanted && is_time).then_some(Due::Offer)
            }
            State::Stable => (self.wanted && standing == Standing::Connected).then_some(Due::Offer),
            State::Offered { aside: Some(aside), .. } if now >= aside.at + GLARE_WAIT => {
                let sdp = std::mem::take(&mut aside.sdp);
                self.rolled_back();
                Some(Due::RollBackAndAnswer(sdp))
            }
            State::Offered { since, .. } if now >= *since + ANSWER_WAIT => {
                self.rolled_back();
                Some(Due::RollBack)
            }
            State::Offered { .. } => None,
        }
    }

    /// When to look again.
    pub(crate) fn next(&self) -> Option<Instant> {
        match &self.state {
            State::Fresh { ours_from } => ours_from.filter(|_| self.wanted),
            State::Stable => None,
            State::Offered { aside: Some(aside), .. } => Some(aside.at + GLARE_WAIT),
            State::Offered { since, .. } => Some(*since + ANSWER_WAIT),
        }
    }
}

/// Whether packets reach the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not yet, or not now.
    Apart,
    /// They do.
    Connected,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(now: Instant) -> Negotiation {
        let mut negotiation = Negotiation::new(Manners::BothOffer, now);
        assert_eq!(negotiation.on_offer(now, "first".into()), OnOffer::Answer("first".into()));
        negotiation.completed();
        negotiation.want();
        assert_eq!(negotiation.due(now, Standing::Apart), None);
        assert_eq!(negotiation.due(now, Standing::Connected), Some(Due::Offer));
        negotiation.offered(now);
        negotiation
    }

    #[test]
    fn one_offer_at_a_time() {
        let now = Instant::now();
        let mut negotiation = offered(now);
        negotiation.want();
        assert_eq!(negotiation.due(now, Standing::Connected), None);
        negotiation.completed();
        assert_eq!(negotiation.due(now, Standing::Connected), Some(Due::Offer));
    }

    #[test]
    fn a_polite_client_answers_ours_and_its_colliding_offer_is_void() {
        let now = Instant::now();
        let mut negotiation = offered(now);
        assert_eq!(negotiation.on_offer(now, "theirs".into()), OnOffer::PutAside);
        assert!(negotiation.awaits_answer());
        negotiation.completed();
        assert_eq!(negotiation.due(now + GLARE_WAIT, Standing::Connected), None);
        assert_eq!(negotiation.on_offer(now, "again".into()), OnOffer::Answer("again".into()));
    }

    #[test]
    fn a_client_that_ignores_ours_is_answered_after_a_while_and_offered_again() {
        let now = Instant::now();
        let mut negotiation = offered(now);
        assert_eq!(negotiation.on_offer(now, "theirs".into()), OnOffer::PutAside);
        assert_eq!(negotiation.next(), Some(now + GLARE_WAIT));
        let later = now + GLARE_WAIT;
        assert_eq!(
            negotiation.due(later, Standing::Connected),
            Some(Due::RollBackAndAnswer("theirs".into()))
        );
        negotiation.completed();
        assert_eq!(negotiation.due(later, Standing::Connected), Some(Due::Offer));
    }

    #[test]
    fn a_second_colliding_offer_is_answered_at_once() {
        let now = Instant::now();
        let mut negotiation = offered(now);
        negotiation.on_offer(now, "one".into());
        assert_eq!(negotiation.on_offer(now, "two".into()), OnOffer::RollBackAndAnswer("two".into()));
    }

    #[test]
    fn whip_is_never_offered_to() {
        let now = Instant::now();
        let mut negotiation = Negotiation::new(Manners::ClientOffers, now);
        negotiation.want();
        assert_eq!(negotiation.due(now + FIRST_OFFER_WAIT, Standing::Connected), None);
    }

    #[test]
    fn a_session_in_anothers_place_waits_for_the_clients_offer() {
        let now = Instant::now();
        let mut negotiation = Negotiation::renewed(Manners::BothOffer);
        negotiation.want();
        assert_eq!((negotiation.due(now, Standing::Apart), negotiation.next()), (None, None));
        assert_eq!(negotiation.on_offer(now, "theirs".into()), OnOffer::Answer("theirs".into()));
        negotiation.completed();
        assert_eq!(negotiation.due(now, Standing::Connected), Some(Due::Offer));
    }

    #[test]
    fn a_silent_newcomer_is_offered_to_after_its_time() {
        let now = Instant::now();
        let mut negotiation = Negotiation::new(Manners::BothOffer, now);
        negotiation.want();
        assert_eq!(negotiation.due(now, Standing::Apart), None);
        assert_eq!(negotiation.due(now + FIRST_OFFER_WAIT, Standing::Apart), Some(Due::Offer));
    }
}
