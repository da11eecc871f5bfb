//! Products and sales: what is planned is what is read.

use jiff::SignedDuration;

use super::{Fixture, Outcome};
use crate::backend::database::{SaleQuery, SaleSort};
use crate::domain::{NewProduct, NewSale, Sale, Status};

fn query(fixture: &Fixture) -> SaleQuery {
    SaleQuery {
        now: fixture.now,
        statuses: vec![Status::Active, Status::SoldOut],
        sort: SaleSort::Id,
        descending: false,
        page: 0,
        size: 10,
    }
}

fn ids(sales: &[Sale]) -> Vec<i64> {
    sales.iter().map(|sale| sale.id).collect()
}

#[tokio::test]
async fn products_come_newest_last_and_survive_a_restart() -> Outcome {
    let mut fixture = Fixture::new().await?;
    let mut created = Vec::new();
    for name in ["하나", "둘", "셋"] {
        let product = NewProduct {
            name: name.to_owned(),
            price: 1,
            description: "'; DROP TABLE products; --".to_owned(),
        };
        created.push(
            fixture
                .database
                .create_product(&product, fixture.now)
                .await?,
        );
    }
    fixture.reopen().await?;
    fixture.database.ping().await?;
    let newest = created.split_off(1);
    assert_eq!(fixture.database.products(2).await?, newest);
    for product in created {
        assert_eq!(fixture.database.product(product.id).await?, Some(product));
    }
    assert_eq!(fixture.database.product(99).await?, None);
    Ok(())
}

#[tokio::test]
async fn a_sale_needs_its_product() -> Outcome {
    let fixture = Fixture::new().await?;
    let sale = fixture.limited_sale(10, Some(2)).await?;
    assert_eq!((sale.remaining, sale.limit_per_user), (10, Some(2)));
    assert_eq!(fixture.database.sale(sale.id).await?, Some(sale.clone()));
    let orphan = NewSale {
        product_id: 99,
        quantity: 1,
        discount_price: 1,
        start_at: sale.start_at,
        end_at: sale.end_at,
        limit_per_user: None,
    };
    assert_eq!(
        fixture.database.create_sale(&orphan, fixture.now).await?,
        None
    );
    Ok(())
}

#[tokio::test]
async fn the_status_that_the_database_finds_is_the_one_that_the_sale_says() -> Outcome {
    let fixture = Fixture::new().await?;
    let open = fixture.sale(1).await?;
    let sold = fixture.sale(1).await?;
    fixture.buy(&fixture.request("a", &sold, 1, 1)).await?;
    let moment = SignedDuration::from_millis(1);
    for now in [
        open.start_at - moment,
        open.start_at,
        open.end_at - moment,
        open.end_at,
    ] {
        for status in [
            Status::Scheduled,
            Status::Active,
            Status::SoldOut,
            Status::Ended,
        ] {
            let query = SaleQuery {
                now,
                statuses: vec![status],
                ..query(&fixture)
            };
            let page = fixture.database.sales(&query).await?;
            let mut said = Vec::new();
            for id in [open.id, sold.id] {
                said.extend(fixture.database.sale(id).await?);
            }
            said.retain(|sale| sale.status(now) == status);
            assert_eq!(page.sales, said, "{status:?} at {now}");
            assert_eq!(page.total, u64::try_from(said.len())?);
        }
    }
    Ok(())
}

#[tokio::test]
async fn pages_are_sorted_by_a_column_and_then_by_id() -> Outcome {
    let fixture = Fixture::new().await?;
    for quantity in [3, 1, 2, 1, 3] {
        fixture.sale(quantity).await?;
    }
    let by_stock = SaleQuery {
        sort: SaleSort::RemainingQuantity,
        size: 2,
        ..query(&fixture)
    };
    let mut up = Vec::new();
    let mut down = Vec::new();
    for page in 0..4 {
        let rising = SaleQuery {
            page,
            ..by_stock.clone()
        };
        let falling = SaleQuery {
            descending: true,
            ..rising.clone()
        };
        let rising = fixture.database.sales(&rising).await?;
        assert_eq!(rising.total, 5);
        up.extend(ids(&rising.sales));
        down.extend(ids(&fixture.database.sales(&falling).await?.sales));
    }
    assert_eq!(up, [2, 4, 3, 1, 5]);
    assert_eq!(down, [5, 1, 3, 4, 2]);
    for sort in [
        SaleSort::Id,
        SaleSort::StartAt,
        SaleSort::EndAt,
        SaleSort::DiscountPrice,
        SaleSort::CreatedAt,
    ] {
        let query = SaleQuery {
            sort,
            page: u64::MAX,
            ..query(&fixture)
        };
        let beyond = fixture.database.sales(&query).await?;
        assert_eq!((beyond.sales, beyond.total), (Vec::new(), 5));
    }
    Ok(())
}

#[tokio::test]
async fn open_sales_are_those_in_their_window_and_the_busiest_come_first() -> Outcome {
    let fixture = Fixture::new().await?;
    let quiet = fixture.sale(5).await?;
    let busy = fixture.sale(5).await?;
    fixture.buy(&fixture.request("a", &busy, 1, 5)).await?;
    let open = fixture
        .database
        .open_sales(fixture.now, fixture.now, 10)
        .await?;
    assert_eq!(ids(&open), [busy.id, quiet.id]);
    let one = fixture
        .database
        .open_sales(fixture.now, fixture.now, 1)
        .await?;
    assert_eq!(ids(&one), [busy.id]);
    let none = fixture
        .database
        .open_sales(quiet.end_at, quiet.end_at, 10)
        .await?;
    assert!(none.is_empty(), "{none:?}");
    Ok(())
}
