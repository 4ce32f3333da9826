//! Lists that come page by page, as one stream: a page is asked for when the one before has been read.

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::StorageError;

/// The items of every page. `page` is given where a page begins, at first `begin`, and returns its items and where the next one
/// begins.
pub(super) fn pages<'a, T, At, Page, Ask>(begin: At, page: Ask) -> BoxStream<'a, Result<T, StorageError>>
where
    T: Send + 'a,
    At: Send + 'a,
    Page: Future<Output = Result<(Vec<T>, Option<At>), StorageError>> + Send + 'a,
    Ask: Fn(At) -> Page + Send + 'a,
{
    let pages = stream::try_unfold(Some(begin), move |at| {
        let page = at.map(&page);
        async move {
            let Some(page) = page else { return Ok::<_, StorageError>(None) };
            let (items, next) = page.await?;
            Ok(Some((stream::iter(items.into_iter().map(Ok)), next)))
        }
    });
    pages.try_flatten().boxed()
}
