//! What is asked of S3 for each object: what is kept with it, how it is encrypted, in which class.

use aws_sdk_s3::operation::create_multipart_upload::builders::CreateMultipartUploadFluentBuilder;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::types::{ChecksumAlgorithm, ServerSideEncryption, StorageClass};

use crate::storage::{Attributes, S3Encryption, S3Settings};

/// The same calls on the two requests that make an object; the SDK has no trait for both.
macro_rules! with_options {
    ($name:ident, $request:ty) => {
        pub(super) fn $name(request: $request, attributes: &Attributes, settings: &S3Settings) -> $request {
            let (algorithm, key) = encryption(&settings.encryption);
            let mut request = request
                .content_type(&attributes.content_type)
                .set_cache_control(attributes.cache_control.clone())
                .set_server_side_encryption(algorithm)
                .set_ssekms_key_id(key)
                .set_storage_class(settings.storage_class.as_deref().map(StorageClass::from))
                .set_checksum_algorithm(settings.checksums.then_some(ChecksumAlgorithm::Crc64Nvme));
            for (name, value) in attributes.metadata.pairs() {
                request = request.metadata(name, value);
            }
            request
        }
    };
}

with_options!(for_object, PutObjectFluentBuilder);
with_options!(for_upload, CreateMultipartUploadFluentBuilder);

fn encryption(encryption: &S3Encryption) -> (Option<ServerSideEncryption>, Option<String>) {
    match encryption {
        S3Encryption::Bucket => (None, None),
        S3Encryption::Aes256 => (Some(ServerSideEncryption::Aes256), None),
        S3Encryption::Kms(key) => (Some(ServerSideEncryption::AwsKms), key.clone()),
    }
}
