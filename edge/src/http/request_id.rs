//! A name for each request, so that a caller's report and our log lines meet. A caller's own is kept when it is well-formed.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use ulid::Ulid;

/// The header, in both directions.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is kept from a caller.
const MAX: usize = 64;

/// The request's id; in the extensions of every request.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) String);

/// Names the request, and writes the name onto whatever is answered.
pub(super) async fn attach(mut request: Request, next: Next) -> Response {
    let id = of(request.headers());
    let header = HeaderValue::from_str(&id.0).expect("checked characters and ULIDs are visible ASCII");
    request.extensions_mut().insert(id);
    let mut response = next.run(request).await;
    response.headers_mut().insert(X_REQUEST_ID, header);
    response
}

fn of(headers: &HeaderMap) -> RequestId {
    let own = headers.get(X_REQUEST_ID).and_then(|value| value.to_str().ok());
    let kept = own.filter(|id| is_well_formed(id)).map(str::to_owned);
    RequestId(kept.unwrap_or_else(|| Ulid::generate().to_string()))
}

fn is_well_formed(id: &str) -> bool {
    (1..=MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(value: &str) -> String {
        of(&HeaderMap::from_iter([(X_REQUEST_ID, HeaderValue::from_str(value).unwrap())])).0
    }

    #[test]
    fn a_well_formed_id_is_kept() {
        assert_eq!(given("a-B_9.z"), "a-B_9.z");
    }

    #[test]
    fn any_other_is_replaced() {
        for bad in ["", "a b", "a\"b", &"x".repeat(65)] {
            assert_ne!(given(bad), bad);
        }
    }
}
