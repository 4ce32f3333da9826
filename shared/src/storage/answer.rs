//! Answers of a provider, read to their end, and no further than any of them reaches: whoever answers for ever fills no memory.

use bytes::Bytes;
use reqwest::Response;

/// The longest answer: a page of 1,000 objects, whose names in three URLs take 10 KiB each at most.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why an answer was not read to its end.
#[derive(Debug)]
pub(super) enum Unread {
    /// The network failed.
    Network(reqwest::Error),
    /// It is longer than any that is right.
    TooLong,
}

/// The body of an answer.
pub(super) async fn whole(answer: Response) -> Result<Bytes, Unread> {
    upto(BYTES_MAX, answer).await
}

async fn upto(max: usize, mut answer: Response) -> Result<Bytes, Unread> {
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(Unread::Network)? {
        if body.len() + piece.len() > max {
            return Err(Unread::TooLong);
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &'static str) -> Response {
        http::Response::new(body).into()
    }

    #[tokio::test]
    async fn an_answer_is_read_whole_and_one_without_end_is_not() {
        assert_eq!(upto(5, answer("12345")).await.unwrap(), "12345");
        assert!(matches!(upto(4, answer("12345")).await, Err(Unread::TooLong)));
    }
}
