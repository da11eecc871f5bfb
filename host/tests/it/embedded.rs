//! What is true of the embedded backends alone: they live in the data folder and serve one host.
//!
//! `make test-services` leaves this module out.

use std::fs;

use super::{
    startup::assert_refused,
    support::{Host, Setup},
};

#[tokio::test]
async fn a_data_folder_that_cannot_be_written_is_refused() {
    let setup = Setup::new();
    let file = setup.data().join("file");
    fs::write(&file, "").unwrap();
    // Below a file nobody can write, not even root.
    let folder = file.join("data");
    let name = folder.display().to_string();
    assert_refused(&setup.set("TIMESALE_DATA_DIR", folder.display()), &[&name]).await;
}

#[tokio::test]
async fn a_second_host_on_one_data_folder_is_refused_and_the_first_goes_on() {
    let host = Host::start().await;
    let folder = host.setup().data().display().to_string();
    assert_refused(host.setup(), &["another timesale", &folder]).await;
    let sale = host.shop.sale(1).await;
    host.shop.buy("v1", sale, 42, 1).send().await.order_id();
}
