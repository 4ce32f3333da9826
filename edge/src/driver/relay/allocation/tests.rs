//! What a server says, and what is made of it. Time is moved by hand.

use super::*;
use rtc::stun::attributes::{ATTR_NONCE, ATTR_REALM};
use rtc::stun::error_code::{ErrorCode, ErrorCodeAttribute};
use rtc::stun::message::{CLASS_ERROR_RESPONSE, Message, MessageType, Setter};
use rtc::stun::textattrs::TextAttribute;

fn begun(now: Instant) -> Allocation {
    let credentials = Credentials { username: "edge".to_owned(), password: "pass".to_owned() };
    Allocation::begin(now, credentials)
}

/// The request that was sent last.
fn last(allocation: &mut Allocation) -> Message {
    let mut message = Message::new();
    message.raw = allocation.poll_send().last().expect("a request");
    message.decode().unwrap();
    message
}

/// The server's refusal of a request.
fn refusal(request: &Message, code: u16, nonce: Option<&str>) -> Vec<u8> {
    let mut message = Message::new();
    let mut parts: Vec<Box<dyn Setter>> = vec![
        Box::new(request.transaction_id),
        Box::new(MessageType::new(request.typ.method, CLASS_ERROR_RESPONSE)),
        Box::new(ErrorCodeAttribute { code: ErrorCode(code), reason: b"why".to_vec() }),
    ];
    if let Some(nonce) = nonce {
        parts.push(Box::new(TextAttribute::new(ATTR_REALM, "realm".to_owned())));
        parts.push(Box::new(TextAttribute::new(ATTR_NONCE, nonce.to_owned())));
    }
    message.build(&parts).unwrap();
    message.raw
}

fn nonce(request: &Message) -> String {
    TextAttribute::get_from_as(request, ATTR_NONCE).map(|found| found.text).unwrap_or_default()
}

/// An allocation that the server has agreed to, as far as it knows.
fn held(now: Instant) -> Allocation {
    let mut held = begun(now);
    let first = last(&mut held);
    held.receive(now, &refusal(&first, 401, Some("first")));
    let relayed = SocketAddr::from(([192, 0, 2, 9], 50_000));
    held.requests.clear();
    held.poll_send().for_each(drop);
    held.done(now, Wish::Allocate, Some(relayed), Some(Duration::from_secs(600)));
    assert_eq!(*held.state(), State::Held(relayed));
    held
}

#[test]
fn a_challenge_is_answered_with_credentials_and_a_second_one_is_a_refusal() {
    let (now, mut allocation) = (Instant::now(), begun(Instant::now()));
    let first = last(&mut allocation);
    assert_eq!(nonce(&first), "", "nothing is signed before the server has said for whom");
    allocation.receive(now, &refusal(&first, 401, Some("one")));
    let second = last(&mut allocation);
    assert_eq!(nonce(&second), "one");
    allocation.receive(now, &refusal(&second, 401, Some("one")));
    assert_eq!(*allocation.state(), State::Ended(Reason::Refused("401 why".to_owned())));
    assert_eq!(allocation.poll_timeout(), None);
}

#[test]
fn a_stale_nonce_is_renewed_at_once_but_not_for_ever() {
    let now = Instant::now();
    let mut allocation = held(now);
    let later = now + REFRESH_EVERY;
    allocation.timeout(later);
    for at in 0..NONCES_MAX {
        let request = last(&mut allocation);
        let fresh = format!("nonce {at}");
        allocation.receive(later, &refusal(&request, 438, Some(&fresh)));
        assert_eq!(nonce(&peek(&allocation)), fresh);
    }
    let request = last(&mut allocation);
    allocation.receive(later, &refusal(&request, 438, Some("one more")));
    assert!(matches!(allocation.state(), State::Ended(Reason::Refused(_))), "{:?}", allocation.state());
}

/// The request that is under way.
fn peek(allocation: &Allocation) -> Message {
    let mut message = Message::new();
    message.raw.clone_from(&allocation.requests.values().next().expect("a request").datagram);
    message.decode().unwrap();
    message
}

#[test]
fn a_server_that_does_not_know_it_ends_it_whatever_was_asked() {
    let (now, to) = (Instant::now(), SocketAddr::from(([192, 0, 2, 1], 1)));
    let mut refreshed = held(now);
    refreshed.timeout(now + REFRESH_EVERY);
    let mut permitted = held(now);
    permitted.send(now, to, &[0, 1], &mut |_| panic!("not permitted yet"));
    for mut allocation in [refreshed, permitted] {
        let request = last(&mut allocation);
        allocation.receive(now, &refusal(&request, 437, None));
        assert_eq!(*allocation.state(), State::Ended(Reason::Forgotten));
    }
}

#[test]
fn an_address_that_the_server_forbids_is_not_asked_for_again_at_once() {
    let (now, to) = (Instant::now(), SocketAddr::from(([10, 0, 0, 1], 1)));
    let mut allocation = held(now);
    allocation.send(now, to, &[0, 1], &mut |_| panic!("not permitted"));
    let request = last(&mut allocation);
    allocation.receive(now, &refusal(&request, 403, None));
    allocation.send(now, to, &[0, 1], &mut |_| panic!("not permitted"));
    assert_eq!(allocation.poll_send().count(), 0);
    assert!(matches!(allocation.state(), State::Held(_)));
}

#[test]
fn a_silent_server_is_given_up_after_a_while() {
    let (mut now, mut allocation) = (Instant::now(), begun(Instant::now()));
    let begun = now;
    let mut sent = 0;
    while let Some(due) = allocation.poll_timeout() {
        sent += allocation.poll_send().count();
        now = due;
        allocation.timeout(now);
    }
    assert_eq!(sent, 5);
    assert!(now - begun < Duration::from_secs(17));
    assert_eq!(*allocation.state(), State::Ended(Reason::Silent));
}

#[test]
fn success_that_is_not_signed_is_nobodys() {
    let now = Instant::now();
    let mut allocation = held(now);
    allocation.timeout(now + REFRESH_EVERY);
    let request = last(&mut allocation);
    let mut forged = Message::new();
    let class = rtc::stun::message::CLASS_SUCCESS_RESPONSE;
    forged
        .build(&[Box::new(request.transaction_id), Box::new(MessageType::new(request.typ.method, class))])
        .unwrap();
    allocation.receive(now, &forged.raw);
    assert_eq!(allocation.requests.len(), 1, "the answer is still waited for");
}

#[test]
fn strange_bytes_are_nothing() {
    let now = Instant::now();
    let mut allocation = held(now);
    allocation.timeout(now + REFRESH_EVERY);
    let whole = refusal(&last(&mut allocation), 400, Some("nonce"));
    for end in 0..whole.len() {
        assert!(allocation.receive(now, &whole[..end]).is_none());
    }
    for strange in [&[0x40, 0, 0xFF, 0xFF, 1][..], &[0x41, 0, 0, 1, 1], &[0xFF; 40], &[0x40]] {
        assert!(allocation.receive(now, strange).is_none());
    }
}
