//! Counting a selection against the same count by hand, both as the role that sees one tenant.

use anklang_proto::anklang::selections::v1::{self as pb, criteria::Node, value::Value as V};
use anyhow::{Result, ensure};

use crate::Bench;
use crate::report::timed;

const TIMES: usize = 11;

/// EVI's mask: supply status, annual quantity, postcode, product versions.
pub fn mask() -> pb::Criteria {
    let text = |t: &str| V::Text(t.to_owned());
    let number = |n: &str| V::Number(n.to_owned());
    all(vec![
        compare(
            "supply_status",
            pb::Operator::In,
            vec![text("AU"), text("AB")],
        ),
        compare(
            "annual_quantity_kwh",
            pb::Operator::Between,
            vec![number("2500"), number("8000")],
        ),
        compare(
            "site_postal_code",
            pb::Operator::Between,
            vec![text("20000"), text("59999")],
        ),
        compare(
            "product_version",
            pb::Operator::In,
            vec![
                text("products/P/versions/V0"),
                text("products/P/versions/V1"),
            ],
        ),
    ])
}

const BY_HAND: &str = "SELECT count(*), count(DISTINCT customer_id) FROM contract c
    WHERE c.tenant_id = (SELECT id FROM tenant) AND supply_status IN ('AU', 'AB')
      AND annual_quantity_kwh BETWEEN 2500 AND 8000
      AND site_postal_code BETWEEN '20000' AND '59999'
      AND product_version_id IN (SELECT v.id FROM product_version v
          WHERE v.tenant_id = (SELECT id FROM tenant) AND v.code IN ('V0', 'V1'))";

/// Has no orders, and consents to mail.
fn related() -> pb::Criteria {
    let granted = compare(
        "state",
        pb::Operator::Equal,
        vec![V::Text("granted".into())],
    );
    all(vec![
        relation("orders", pb::Quantifier::None, None),
        relation("consents", pb::Quantifier::Any, Some(granted)),
    ])
}

const RELATED_BY_HAND: &str = "SELECT count(*) FROM customer c
    WHERE c.tenant_id = (SELECT id FROM tenant)
      AND NOT EXISTS (SELECT FROM sales_order o WHERE o.tenant_id = c.tenant_id AND o.customer_id = c.id)
      AND EXISTS (SELECT FROM consent k WHERE k.tenant_id = c.tenant_id AND k.customer_id = c.id
                  AND k.state = 'granted')";

/// Compares.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let tenant = "SELECT id::text FROM tenant";
    let tenant: String = bench.db.query_one(tenant, &[]).await?.get(0);
    let step_down = format!(
        "BEGIN; SELECT set_config('role', 'anklang_app', true), set_config('anklang.tenant', '{tenant}', true)"
    );
    for (what, subject, criteria, by_hand) in [
        (
            "selection count, EVI's mask",
            pb::Subject::Contract,
            mask(),
            BY_HAND,
        ),
        (
            "selection count, relations",
            pb::Subject::Customer,
            related(),
            RELATED_BY_HAND,
        ),
    ] {
        let (mut ours, mut hand) = (Vec::new(), Vec::new());
        let mut found = 0;
        for _ in 0..TIMES {
            let request = pb::PreviewSelectionRequest {
                source: Some(pb::preview_selection_request::Source::Criteria(
                    pb::AdHocCriteria {
                        subject: subject.into(),
                        criteria: Some(criteria.clone()),
                    },
                )),
                ..Default::default()
            };
            let (preview, time) =
                timed(bench.client.selections().preview_selection(request)).await?;
            ours.push(time);
            let counting = async {
                bench.db.batch_execute(&step_down).await?;
                let row = bench.db.query_one(by_hand, &[]).await?;
                bench.db.batch_execute("COMMIT").await?;
                Ok::<_, tokio_postgres::Error>(row)
            };
            let (row, time) = timed(counting).await?;
            hand.push(time);
            found = row.get::<_, i64>(0);
            let counted = preview.into_inner().count;
            ensure!(counted == found, "{what}: {counted} instead of {found}");
        }
        ours.sort();
        hand.sort();
        let baseline = (
            "the same SQL by hand, under row-level security",
            hand[TIMES / 2],
        );
        let what = format!("{what} ({found} found)");
        bench
            .report
            .add(&what, bench.accounts, ours[TIMES / 2], baseline);
    }
    Ok(())
}

fn all(criteria: Vec<pb::Criteria>) -> pb::Criteria {
    node(Node::All(pb::CriteriaList { criteria }))
}

fn compare(field: &str, operator: pb::Operator, values: Vec<V>) -> pb::Criteria {
    let values = values.into_iter().map(|v| pb::Value { value: Some(v) });
    node(Node::Compare(pb::Compare {
        field: field.into(),
        operator: operator.into(),
        values: values.collect(),
    }))
}

fn relation(
    relation: &str,
    quantifier: pb::Quantifier,
    criteria: Option<pb::Criteria>,
) -> pb::Criteria {
    node(Node::Related(Box::new(pb::Related {
        relation: relation.into(),
        quantifier: quantifier.into(),
        criteria: criteria.map(Box::new),
        ..Default::default()
    })))
}

fn node(node: Node) -> pb::Criteria {
    pb::Criteria { node: Some(node) }
}
