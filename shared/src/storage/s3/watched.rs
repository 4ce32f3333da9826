//! The SDK's own HTTP client, watched: each attempt at a request that stands still ends as one that has timed out, and is repeated as
//! such. The SDK itself knows only how long all of an attempt may take, which for a part over a slow line is hours.

use std::pin::Pin;
use std::task::{Context, Poll};

use aws_sdk_s3::config::http::{HttpRequest, HttpResponse};
use aws_sdk_s3::config::{HttpClient, RuntimeComponents, SharedHttpClient};
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::result::ConnectorError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::watch;

use crate::storage::patience::{Patience, stalled};

/// The client that the SDK makes by itself, and the watch over it.
pub(super) fn client(patience: Patience) -> SharedHttpClient {
    let inner = Builder::new().build_with_connector_fn(|settings, components| {
        let mut connector = ConnectorBuilder::default().tls_provider(Provider::Rustls(CryptoMode::AwsLc));
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.set_proxy_config(Some(ProxyConfig::from_env()));
        connector.build()
    });
    SharedHttpClient::new(Watched { inner, patience })
}

#[derive(Debug)]
struct Watched<T> {
    inner: T,
    patience: Patience,
}

impl HttpClient for Watched<SharedHttpClient> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        SharedHttpConnector::new(Watched { inner, patience: self.patience })
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.inner.connector_metadata()
    }
}

impl HttpConnector for Watched<SharedHttpConnector> {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let (moving, moved) = watch::channel(());
        let body = std::mem::replace(request.body_mut(), SdkBody::taken());
        *request.body_mut() = SdkBody::from_body_1_x(Moving { body, moving });
        let (answer, patience) = (self.inner.call(request), self.patience);
        HttpConnectorFuture::new(async move {
            tokio::select! {
                answer = answer => answer,
                () = stalled(moved, patience) => Err::<HttpResponse, _>(stands_still()),
            }
        })
    }
}

fn stands_still() -> ConnectorError {
    ConnectorError::timeout("the request stands still".into())
}

/// A body that tells of each piece that is taken of it.
struct Moving {
    body: SdkBody,
    moving: watch::Sender<()>,
}

impl Body for Moving {
    type Data = Bytes;
    type Error = aws_sdk_s3::error::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if polled.is_ready() {
            self.moving.send_replace(());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::mpsc;

    use super::*;
    use crate::env::Env;
    use crate::storage::s3::S3Storage;
    use crate::storage::{Attributes, Storage, StorageError, StorageSettings};

    /// What is sent at once, and more than the kernel keeps of a connection that nobody reads.
    const SIZE: usize = 12 << 20;

    /// A bucket at a server that does with each connection as it is told.
    async fn at<Serve>(serve: impl Fn(TcpStream) -> Serve + Send + 'static) -> (S3Storage, mpsc::Receiver<()>)
    where
        Serve: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (coming, come) = mpsc::channel(10);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                coming.send(()).await.unwrap();
                tokio::spawn(serve(stream));
            }
        });
        let env = Env::from_pairs([
            ("RECORDING_S3_BUCKET", "b"),
            ("RECORDING_S3_ENDPOINT", endpoint.as_str()),
            ("RECORDING_STORAGE_CREDENTIALS", r#"{"accessKeyId": "id", "secretAccessKey": "s"}"#),
        ]);
        let StorageSettings::S3(settings) = StorageSettings::from_env(&env).unwrap() else { panic!() };
        let moment = Duration::from_millis(300);
        let patience = Patience { attempts: 2, standing_max: moment, answer_max: moment };
        (S3Storage::open_with(&settings, patience).await.unwrap(), come)
    }

    async fn put(storage: &S3Storage) -> StorageError {
        let bytes = Bytes::from(vec![7; SIZE]);
        storage.put_bytes("k", bytes, &Attributes::default()).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_server_that_takes_a_body_and_says_nothing_is_given_up_and_tried_again() {
        let (storage, mut come) = at(async |mut stream: TcpStream| {
            let mut block = vec![0; 1 << 16];
            while matches!(stream.read(&mut block).await, Ok(1..)) {}
        })
        .await;
        let error = put(&storage).await;
        assert!(matches!(&error, StorageError::Unavailable { .. }), "{error}");
        assert!(error.to_string().contains("stands still"), "{error}");
        come.try_recv().unwrap();
        come.try_recv().unwrap();
        come.try_recv().unwrap_err();
    }

    #[tokio::test]
    async fn a_line_on_which_nothing_moves_is_given_up() {
        let (storage, _come) = at(async |stream: TcpStream| {
            std::future::pending::<()>().await;
            drop(stream);
        })
        .await;
        let error = put(&storage).await;
        assert!(error.to_string().contains("stands still"), "{error}");
    }
}
