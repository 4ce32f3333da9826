//! What every provider of storage does alike, tested against real servers. The cases are written once (`cases`, `resume`);
//! [`providers`] is the table of who is tried. `worker doctor` is tried on the same servers.

#[cfg(test)]
mod amazon;
#[cfg(test)]
mod backup;
#[cfg(test)]
mod cases;
#[cfg(test)]
mod deleted;
mod doctor;
#[cfg(test)]
mod elsewhere;
mod files;
#[cfg(test)]
mod google;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod options;
mod providers;
#[cfg(test)]
mod refused;
#[cfg(test)]
mod resume;
#[cfg(test)]
mod spool;
#[cfg(test)]
mod staged;
#[cfg(test)]
mod vercel;
mod whole;

/// A test of a case against a provider, which has a server of its own.
macro_rules! case {
    ($provider:ident, $name:ident, $case:path) => {
        #[tokio::test]
        async fn $name() {
            $case(&providers::$provider().await).await;
        }
    };
}

/// The cases that belong together: what a provider can do decides which it has.
macro_rules! cases {
    (all, $provider:ident) => {
        case!($provider, a_small_file_arrives_with_what_it_is, cases::small);
        case!($provider, an_empty_file_arrives, cases::empty);
        case!($provider, a_file_of_odd_size_arrives_in_parts, cases::odd);
        case!($provider, a_gibibyte_takes_little_memory, cases::large);
        case!($provider, keys_may_be_long_and_of_any_script, cases::keys);
        case!($provider, a_key_is_overwritten, cases::overwrite);
        case!($provider, what_is_missing_is_told_apart, cases::missing);
        case!($provider, lists_go_over_several_pages, cases::list);
        case!($provider, a_part_of_an_object_is_read, cases::range);
        case!($provider, damage_is_found, cases::damage);
    };
    (links, $provider:ident) => {
        case!($provider, a_temporary_url_opens_and_later_does_not, cases::link);
    };
    (no_links, $provider:ident) => {
        case!($provider, there_is_no_temporary_url, cases::no_link);
    };
    (credentials, $provider:ident) => {
        case!($provider, wrong_credentials_are_told_apart, cases::credentials);
    };
    (bucket, $provider:ident) => {
        case!($provider, a_wrong_bucket_is_told_apart, cases::bucket);
    };
    (resumes, $provider:ident) => {
        case!($provider, an_upload_goes_on_where_it_stopped, resume::goes_on);
        case!($provider, a_file_that_changed_is_begun_anew, resume::changed);
        case!($provider, what_nobody_resumes_is_given_up, resume::given_up);
    };
    (begins_anew, $provider:ident) => {
        case!($provider, an_upload_that_stopped_begins_anew, resume::begins_anew);
        case!($provider, another_file_is_begun_anew, resume::begins_anew_with_another);
        case!($provider, a_file_that_breaks_off_leaves_nothing, resume::leaves_nothing);
    };
}

/// One module per provider, with the cases that it has.
macro_rules! conform {
    ($($provider:ident: $($group:ident)+;)+) => { $(
        mod $provider {
            use crate::{cases, providers, resume};

            $(cases!($group, $provider);)+
        }
    )+ };
}

conform! {
    local: all no_links begins_anew;
    s3: all links credentials bucket resumes;
    s3_without_checksums: all links credentials bucket resumes;
    gcs: all links credentials bucket resumes;
    gcs_emulator: all no_links bucket resumes;
    vercel_blob: all links credentials bucket begins_anew;
    vercel_blob_in_trouble: all links credentials bucket begins_anew;
}
