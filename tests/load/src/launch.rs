//! A launch to everybody against the same rows by `INSERT … SELECT`.

use std::time::{Duration, Instant};

use anklang_proto::anklang::campaigns::v1 as campaigns;
use anklang_proto::anklang::offers::v1::GetCockpitRequest;
use anklang_proto::anklang::operations::v1::OperationMetadata;
use anklang_proto::anklang::reach::v1::GetReachRequest;
use anklang_proto::anklang::selections::v1::{
    self as selections, criteria::Node, value::Value as V,
};
use anklang_proto::google::longrunning as lro;
use anklang_proto::google::r#type::Date;
use anyhow::{Context, Result, bail, ensure};
use chrono::{Datelike, Days, Utc};
use prost::Message;

use crate::Bench;
use crate::report::timed;

const POLL: Duration = Duration::from_millis(100);

/// What came of a launch.
pub struct Launched {
    /// What the launch answered.
    pub response: campaigns::LaunchCampaignResponse,
    /// Its steps, and how long each took.
    pub steps: Vec<(String, Duration)>,
}

/// Everybody whose contract's number is below that of `accounts`, without letters.
pub fn request(target: &str, accounts: usize) -> campaigns::LaunchCampaignRequest {
    use campaigns::launch_campaign_request::{Audience, CampaignTarget};
    let all = selections::Compare {
        field: "number".into(),
        operator: selections::Operator::Less.into(),
        values: vec![selections::Value {
            value: Some(V::Text(format!("V{accounts:08}"))),
        }],
    };
    let until = Utc::now().date_naive() + Days::new(60);
    campaigns::LaunchCampaignRequest {
        campaign_target: Some(CampaignTarget::NewCampaign(campaigns::Campaign {
            display_name: "Load".into(),
            ..Default::default()
        })),
        audience: Some(Audience::Criteria(selections::AdHocCriteria {
            subject: selections::Subject::Contract.into(),
            criteria: Some(selections::Criteria {
                node: Some(Node::Compare(all)),
            }),
        })),
        target_product_version: format!("products/P/versions/{target}"),
        offer_valid_until_date: Some(Date {
            year: until.year(),
            month: i32::try_from(until.month()).unwrap_or(1),
            day: i32::try_from(until.day()).unwrap_or(1),
        }),
        outbound: Some(campaigns::OutboundSpec {
            channel_account: "channelAccounts/mail".into(),
            without_document: true,
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Launches and waits. There must be so many members.
pub async fn launch(
    bench: &Bench,
    request: campaigns::LaunchCampaignRequest,
    members: usize,
) -> Result<Launched> {
    let mut steps: Vec<(String, Duration)> = Vec::new();
    let mut begin = Instant::now();
    let mut operation = bench
        .client
        .campaigns()
        .launch_campaign(request)
        .await?
        .into_inner();
    let mut step = String::new();
    while !operation.done {
        tokio::time::sleep(POLL).await;
        let name = operation.name.clone();
        let request = lro::GetOperationRequest { name };
        operation = bench
            .client
            .operations()
            .get_operation(request)
            .await?
            .into_inner();
        let metadata = operation.metadata.as_ref().context("metadata")?;
        let metadata = OperationMetadata::decode(&metadata.value[..])?;
        if metadata.phase != step || operation.done {
            if !step.is_empty() {
                steps.push((step, begin.elapsed()));
                begin = Instant::now();
            }
            step = metadata.phase;
        }
    }
    match operation.result {
        Some(lro::operation::Result::Response(any)) => {
            let response = campaigns::LaunchCampaignResponse::decode(&any.value[..])?;
            let found = usize::try_from(response.members)?;
            ensure!(found == members, "{found} members");
            Ok(Launched { response, steps })
        }
        other => bail!("the launch did not succeed: {other:?}"),
    }
}

/// Launches, does it by hand, and launches again.
pub async fn run(bench: &mut Bench) -> Result<()> {
    bench.forget_peak_memory()?;
    let mut ours = Vec::new();
    let mut hand = Duration::ZERO;
    let mut campaign = String::new();
    for target in ["V6", "V7"] {
        let request = request(target, bench.accounts);
        let (launched, time) = timed(launch(bench, request, bench.accounts)).await?;
        for (step, time) in launched.steps {
            let seconds = format!("{:.1} s", time.as_secs_f64());
            bench
                .report
                .note(&format!("launch to {target}, step {step}"), seconds);
        }
        campaign = launched.response.campaign.context("a campaign")?.name;
        ours.push(time);
        if target == "V6" {
            bench.note_peak_memory("launch")?;
            bench.db.batch_execute(PREPARE).await?;
            ((), hand) = timed(bench.db.batch_execute(BY_HAND)).await?;
        }
    }
    for (ours, what) in ours
        .into_iter()
        .zip(["launch, first", "launch, after that by hand"])
    {
        let baseline = ("the same rows by INSERT … SELECT", hand);
        bench.report.add(what, bench.accounts, ours, baseline);
    }
    figures(bench, campaign).await
}

/// What people look at afterwards, each against the counts that it shows, by hand.
async fn figures(bench: &mut Bench, campaign: String) -> Result<()> {
    let id = campaign.trim_start_matches("campaigns/");
    let by_hand = [
        format!(
            "SELECT m.exclusion, count(*) FROM audience_member m JOIN phase p ON p.id = m.phase_id
             WHERE p.campaign_id = '{id}' GROUP BY 1;
             SELECT state, count(*) FROM offer WHERE campaign_id = '{id}' GROUP BY 1;
             SELECT state, count(*) FROM message WHERE campaign_id = '{id}' GROUP BY 1"
        ),
        "SELECT v.currency, c.division, count(*), sum(o.annual_amount) FROM offer o
         JOIN contract c ON c.id = o.contract_id JOIN product_version v ON v.id = o.product_version_id
         WHERE o.state = 'open' GROUP BY 1, 2"
            .into(),
    ];
    let mut hand = Vec::new();
    for statements in by_hand {
        let ((), time) = timed(bench.db.batch_execute(&statements)).await?;
        hand.push(time);
    }
    let client = &bench.client;
    let name = campaign.clone();
    let infoboard = campaigns::GetInfoboardRequest { name };
    let (_, infoboard) = timed(client.campaigns().get_infoboard(infoboard)).await?;
    let (_, reach) = timed(client.reach().get_reach(GetReachRequest { campaign })).await?;
    let cockpit = GetCockpitRequest {
        expiring_within_days: 14,
    };
    let (_, cockpit) = timed(client.offers().get_cockpit(cockpit)).await?;
    let counts = "members, offers and messages of the campaign by state";
    for (what, time, baseline) in [
        ("GetInfoboard", infoboard, (counts, hand[0])),
        ("GetReach", reach, (counts, hand[0])),
        (
            "GetCockpit",
            cockpit,
            ("all open offers by division", hand[1]),
        ),
    ] {
        bench.report.add(what, bench.accounts, time, baseline);
    }
    Ok(())
}

/// A campaign for the rows made by hand: a copy of the launched one.
const PREPARE: &str = "
    CREATE TEMPORARY TABLE hand AS
        SELECT p.tenant_id, p.id AS of, p.campaign_id AS of_campaign, gen_random_uuid() AS campaign,
               gen_random_uuid() AS phase, gen_random_uuid() AS outbound
        FROM phase p;
    INSERT INTO campaign (tenant_id, id, name) SELECT tenant_id, campaign, 'by hand' FROM hand;
    INSERT INTO phase SELECT (jsonb_populate_record(p, jsonb_build_object('id', h.phase, 'campaign_id', h.campaign))).*
        FROM hand h JOIN phase p ON p.tenant_id = h.tenant_id AND p.id = h.of;
    INSERT INTO outbound SELECT (jsonb_populate_record(o, jsonb_build_object('id', h.outbound, 'phase_id', h.phase))).*
        FROM hand h JOIN outbound o ON o.tenant_id = h.tenant_id AND o.phase_id = h.of;
    INSERT INTO audience SELECT (jsonb_populate_record(a, jsonb_build_object('phase_id', h.phase))).*
        FROM hand h JOIN audience a ON a.tenant_id = h.tenant_id AND a.phase_id = h.of;
    ANALYZE hand";

const BY_HAND: &str = "
    BEGIN;
    INSERT INTO audience_member (tenant_id, phase_id, seq, customer_id, contract_id, contact_point_id, exclusion)
        SELECT c.tenant_id, h.phase, row_number() OVER (ORDER BY c.number), c.customer_id, c.id, cp.id,
               CASE WHEN cp.id IS NULL THEN 'no_address' WHEN s.address_hash IS NOT NULL THEN 'suppressed'
                    WHEN k.state IS DISTINCT FROM 'granted' THEN 'no_consent' END
        FROM hand h JOIN contract c ON c.tenant_id = h.tenant_id
        LEFT JOIN contact_point cp ON cp.tenant_id = c.tenant_id AND cp.customer_id = c.customer_id AND cp.channel = 'mail'
        LEFT JOIN suppression s ON s.tenant_id = c.tenant_id AND s.channel = 'mail' AND s.address_hash = cp.address_hash
        LEFT JOIN consent k ON k.tenant_id = c.tenant_id AND k.customer_id = c.customer_id
                            AND k.channel = 'mail' AND k.purpose = 'marketing'
        WHERE c.number < 'W';
    UPDATE audience a SET frozen_at = now(),
        candidates = (SELECT count(*) FROM audience_member m WHERE m.tenant_id = a.tenant_id AND m.phase_id = a.phase_id),
        members = (SELECT count(*) FROM audience_member m WHERE m.tenant_id = a.tenant_id AND m.phase_id = a.phase_id
                   AND m.exclusion IS NULL)
        FROM hand h WHERE a.tenant_id = h.tenant_id AND a.phase_id = h.phase;
    INSERT INTO offer (tenant_id, id, number, customer_id, contract_id, product_version_id, campaign_id, phase_id,
            member_seq, document_template, state, base_price_per_year, unit_price_per_kwh, annual_quantity_kwh,
            annual_amount, currency, offer_date, valid_until)
        SELECT c.tenant_id, anklang_uuid7(), 'H-' || lpad(m.seq::text, 8, '0'), m.customer_id, m.contract_id, v.id,
               h.campaign, h.phase, m.seq, '', 'open', v.base_price_per_year, v.unit_price_per_kwh,
               c.annual_quantity_kwh, round(v.base_price_per_year + v.unit_price_per_kwh * c.annual_quantity_kwh, 2),
               v.currency, current_date, current_date + 60
        FROM hand h JOIN audience_member m ON m.tenant_id = h.tenant_id AND m.phase_id = h.phase AND m.exclusion IS NULL
        JOIN contract c ON c.tenant_id = m.tenant_id AND c.id = m.contract_id
        JOIN product_version v ON v.tenant_id = m.tenant_id AND v.code = 'V6';
    INSERT INTO customer_event (tenant_id, customer_id, kind, resource, campaign_id, details)
        SELECT o.tenant_id, o.customer_id, 'offer.created', 'offers/' || o.number, o.campaign_id,
               jsonb_build_object('annual_amount', o.annual_amount::text, 'currency', o.currency)
        FROM hand h JOIN offer o ON o.tenant_id = h.tenant_id AND o.phase_id = h.phase;
    INSERT INTO message (tenant_id, id, campaign_id, phase_id, outbound_id, member_seq, customer_id, offer_id, channel,
            account, address, address_hash, purpose)
        SELECT m.tenant_id, anklang_uuid7(), h.campaign, h.phase, h.outbound, m.seq, m.customer_id, o.id, 'mail',
               'mail', cp.address, cp.address_hash, 'marketing'
        FROM hand h JOIN audience_member m ON m.tenant_id = h.tenant_id AND m.phase_id = h.phase AND m.exclusion IS NULL
        JOIN offer o ON o.tenant_id = m.tenant_id AND o.phase_id = m.phase_id AND o.member_seq = m.seq
        JOIN contact_point cp ON cp.tenant_id = m.tenant_id AND cp.id = m.contact_point_id;
    COMMIT";
