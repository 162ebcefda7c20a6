//! The page of a few-shot study: what it says, what it draws, read back from the drawing.

mod whole;

use isoflop_base::Measured;
use isoflop_report::fewshot::input::{
    BackboneFacts, ClaimRow, DataFacts, DifferenceRow, Drawing, DrawnEpisode, DrawnQuery, ElsewhereRow,
    ErrorLaw, FewShotInput, GeometryRow, Interval, MethodRow, SCHEMA, SweepRow, TestFacts,
};
use isoflop_report::fewshot::render;
use isoflop_report::{Chart, ChartAxis, ChartSeries, Section};
use std::collections::BTreeMap;
use whole::check;

const METHODS: [(&str, [f64; 2]); 5] = [
    ("proto", [0.7541, 0.8745]),
    ("ccd", [0.2184, 0.3381]),
    ("ccd-residual", [0.7440, 0.8705]),
    ("feat", [0.7663, 0.8890]),
    ("a head that nobody here has heard of", [0.7601, 0.8790]),
];

fn interval(mean: f64, half: f64, seeds_half: f64) -> Interval {
    Interval { mean, half, seeds_half: Some(seeds_half) }
}

fn method_row(method: &str, shots: usize, mean: f64) -> MethodRow {
    let attends = ["ccd", "ccd-residual", "feat"].contains(&method);
    MethodRow {
        method: method.into(),
        shots,
        seeds: vec![1, 2, 3],
        accuracy: interval(mean, 0.003, 0.006),
        accuracies: vec![mean - 0.002, mean, mean + 0.002],
        loss: 0.7,
        seconds: Measured::measured(93.0),
        start_seconds: Measured::measured(104.0),
        joules: Measured::missing("no energy counter was read"),
        flops: Measured::measured(3.9e12),
        trained_episodes: 4000,
        memory_bytes: Measured::measured(5_628_416),
        head_params: if attends { 12_480 } else { 0 },
        geometry: attends.then(|| GeometryRow {
            cosine_before: 0.6,
            cosine_after: if method == "ccd" { 0.97 } else { 0.45 },
            entropy: Some(0.2),
        }),
    }
}

fn picture(side: usize, channels: usize, seed: usize) -> Drawing {
    let hex = (0..side * side * channels).map(|i| format!("{:02x}", (i * 7 + seed * 31) % 256)).collect();
    Drawing { side, channels, hex }
}

fn episode(number: u64, ways: usize, side: usize, channels: usize) -> DrawnEpisode {
    let name = |c| match c {
        0 => "a class with a name that is much longer than any column of the page is wide".to_owned(),
        c => format!("class {c}"),
    };
    let said = |class: usize| -> BTreeMap<String, Vec<f32>> {
        let sure =
            |of: usize| (0..ways).map(|c| if c == of { 0.75 } else { 0.25 / (ways - 1) as f32 }).collect();
        BTreeMap::from([("feat".to_owned(), sure(class)), ("ccd".to_owned(), sure((class + 1) % ways))])
    };
    let queries = (0..ways).flat_map(|class| (0..3).map(move |i| (class, i)));
    DrawnEpisode {
        number,
        classes: (0..ways).map(name).collect(),
        support: (0..ways).map(|c| (0..5).map(|i| picture(side, channels, c + i)).collect()).collect(),
        queries: queries
            .map(|(class, i)| DrawnQuery {
                picture: picture(side, channels, 9 * class + i),
                class,
                said: said(class),
            })
            .collect(),
    }
}

fn sweeps() -> Vec<SweepRow> {
    let axes: [(&str, &[f64]); 4] = [
        ("classes", &[12.0, 23.0, 46.0, 92.0, 183.0]),
        ("images", &[5.0, 10.0, 20.0, 36.0]),
        ("width", &[8.0, 16.0, 32.0, 64.0]),
        ("per_step", &[1.0, 4.0, 16.0]),
    ];
    let mut rows = Vec::new();
    for (axis, values) in axes {
        for method in ["proto", "feat"] {
            for (i, value) in values.iter().enumerate() {
                rows.push(SweepRow {
                    axis: axis.into(),
                    value: *value,
                    method: method.into(),
                    shots: 5,
                    accuracy: interval(0.6 + 0.05 * i as f64, 0.004, 0.009),
                    noise: (axis == "per_step").then_some(40.0 / (1.0 + i as f64)),
                });
            }
        }
    }
    rows
}

/// error = (2 / x)^0.25 exactly.
fn law() -> ErrorLaw {
    let point = |x: f64| (x, (2.0 / x).powf(0.25), 0.004);
    ErrorLaw {
        axis: "classes".into(),
        method: "feat".into(),
        shots: 5,
        points: [12.0, 23.0, 46.0, 92.0, 183.0].map(point).to_vec(),
        exponent: Ok((0.25, 0.22, 0.29)),
        scale: 2.0,
        floor: 0.0,
    }
}

fn elsewhere(
    set: &str,
    method: &str,
    shots: usize,
    accuracy: f64,
    difference: Option<(String, Interval)>,
) -> ElsewhereRow {
    ElsewhereRow {
        set: set.into(),
        classes: 26,
        images: 1194,
        queries: 4,
        method: method.into(),
        shots,
        accuracy: interval(accuracy, 0.002, 0.004),
        difference,
    }
}

fn study() -> FewShotInput {
    let mut rows = Vec::new();
    let mut differences = Vec::new();
    for (i, shots) in [1, 5].into_iter().enumerate() {
        for (method, accuracy) in METHODS {
            rows.push(method_row(method, shots, accuracy[i]));
            if method != "proto" {
                let difference = interval(accuracy[i] - METHODS[0].1[i], 0.002, 0.005);
                differences.push(DifferenceRow {
                    method: method.into(),
                    against: "proto".into(),
                    shots,
                    difference,
                });
            }
        }
    }
    let claim = |verdict: &str| ClaimRow {
        claim: "CCD gains 6.3 points".into(),
        source: "home report".into(),
        found: "+1.45 ± 0.50 points".into(),
        verdict: verdict.into(),
        why: "same episodes".into(),
    };
    FewShotInput {
        schema: SCHEMA.into(),
        name: "study".into(),
        date: "2026-11-26".into(),
        version: "0.1.0".into(),
        machine: "portable kernels, 2 threads".into(),
        data: DataFacts {
            name: "icons".into(),
            splits: vec![("train".into(), 183, 6694)],
            side: 28,
            channels: 1,
        },
        backbone: BackboneFacts { name: "conv4-64".into(), features: 64, params: 111_680 },
        recipe: vec![("episodes".into(), "20000 of 5 ways".into())],
        test: TestFacts { ways: 5, queries: 15, episodes: 2000 },
        rows,
        differences,
        leads: Vec::new(),
        elsewhere: vec![
            elsewhere("clipart", "proto", 1, 0.52, None),
            elsewhere("clipart", "feat", 1, 0.55, Some(("proto".into(), interval(0.03, 0.002, 0.004)))),
        ],
        sweeps: sweeps(),
        laws: vec![
            law(),
            ErrorLaw {
                exponent: Err("too few settings".into()),
                scale: f64::NAN,
                floor: f64::NAN,
                method: "proto".into(),
                ..law()
            },
        ],
        claims: ["holds", "refuted", "open"].map(claim).to_vec(),
        episodes: vec![episode(0, 5, 28, 1), episode(1, 5, 28, 1)],
        cost: None,
        notes: vec!["the icons are built in".into()],
    }
}

/// The drawing whose title is this, the wide one.
fn drawing<'a>(html: &'a str, title: &str) -> &'a str {
    let at =
        html.find(&format!("\">{title}</title>")).unwrap_or_else(|| panic!("no drawing is called {title}"));
    let start = html[..at].rfind("<svg").expect("a drawing begins");
    &html[start..start + html[start..].find("</svg>").expect("a drawing ends")]
}

fn number(tag: &str, name: &str) -> f64 {
    let from =
        tag.find(&format!(" {name}=\"")).unwrap_or_else(|| panic!("{name} of <{tag}>")) + name.len() + 3;
    tag[from..].split('"').next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{name} of <{tag}>"))
}

/// (pixel, value) of the labelled ticks along an axis: those of x are centred, those of y end at it.
fn ticks(svg: &str, along: &str) -> Vec<(f64, f64)> {
    let anchor = if along == "x" { "middle" } else { "end" };
    let tags = svg
        .split("<text class=\"tick\"")
        .skip(1)
        .filter(|t| t.contains(&format!("text-anchor=\"{anchor}\"")));
    tags.filter_map(|t| {
        let (tag, rest) = t.split_once('>')?;
        let value: f64 = rest.split('<').next()?.replace('−', "-").parse().ok()?;
        Some((number(tag, along) - if along == "y" { 4.0 } else { 0.0 }, value))
    })
    .collect()
}

/// The value at a pixel, by the outermost ticks.
fn value(ticks: &[(f64, f64)], pixel: f64, log: bool) -> f64 {
    let scale = |v: f64| if log { v.ln() } else { v };
    let (a, b) = (ticks.first().expect("ticks"), ticks.last().expect("ticks"));
    let v = scale(a.1) + (pixel - a.0) / (b.0 - a.0) * (scale(b.1) - scale(a.1));
    if log { v.exp() } else { v }
}

/// The part of a drawing from a mark's tip backwards to the beginning of its group.
fn group<'a>(svg: &'a str, tip: &str) -> &'a str {
    let at = svg.find(&format!("<title>{tip}")).unwrap_or_else(|| panic!("no mark says {tip}"));
    &svg[svg[..at].rfind("<g class=\"series").expect("a group")..at]
}

#[test]
fn what_it_cost_stands_before_the_facts_and_is_left_out_where_it_is_not_known() {
    assert!(!render(&study()).contains("id=\"cost\""));
    let line = vec![(0.0, 61.0), (0.1, 64.0), (0.1, f64::NAN), (0.2, 55.0), (0.3, 58.0)];
    let axis = |label: &str| ChartAxis { label: label.into(), log: false };
    let chart = Chart {
        title: "Temperature of the processor.".into(),
        x: axis("hours"),
        y: axis("°C"),
        series: vec![ChartSeries { line, ..ChartSeries::default() }],
        ..Chart::default()
    };
    let cost = Section {
        id: "cost".into(),
        title: "What it cost".into(),
        paragraphs: vec!["Energy is missing: no energy counter <was> read.".into()],
        charts: vec![chart],
        ..Section::default()
    };
    let input = FewShotInput { cost: Some(cost), ..study() };
    let html = render(&input);
    check(&html);
    let (cost, facts) = (html.find("id=\"cost\"").unwrap(), html.find("id=\"methods\"").unwrap());
    assert!(cost < facts && html.contains("Energy is missing: no energy counter &lt;was&gt; read."));
    let trace = drawing(&html, "Temperature of the processor.");
    let path = trace.split("class=\"curve decayed\" d=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(path.matches('M').count(), 2, "the gap is drawn over: {path}");
    let again: FewShotInput = serde_json::from_str(&serde_json::to_string(&input).unwrap()).unwrap();
    assert_eq!(render(&again), html, "by way of JSON the same bytes");
}

#[test]
fn flops_per_watt_are_those_of_both_trainings() {
    let row = MethodRow { joules: Measured::measured(7_880.0), ..method_row("proto", 5, 0.8) };
    assert_eq!(row.watts(), Measured::measured(40.0));
    assert_eq!(row.flops_per_joule(), Measured::measured(3.9e12 / 7_880.0));
    let unread = method_row("proto", 5, 0.8);
    assert!(matches!(unread.flops_per_joule(), Measured::Missing { reason } if reason.contains("counter")));
}

#[test]
fn the_forest_stands_where_the_differences_are() {
    let html = render(&study());
    let svg = drawing(&html, "Differences in accuracy to proto");
    let ticks = ticks(svg, "x");
    let zero = svg.split("<line class=\"zero\"").nth(1).expect("a line of no difference");
    assert!(value(&ticks, number(zero.split('>').next().unwrap(), "x1"), false).abs() < 0.02);
    let feat =
        group(svg, "feat against proto, 5 shots: +1.45 points, ± 0.20 over episodes, ± 0.50 over seeds.");
    let mark = feat.rsplit("<circle").next().unwrap();
    assert!((value(&ticks, number(mark, "cx"), false) - 1.45).abs() < 0.02);
    let thick = feat.split("<rect class=\"interval\"").nth(1).expect("an interval over episodes");
    let (x, width) = (number(thick, "x"), number(thick, "width"));
    assert!(
        (value(&ticks, x, false) - 1.25).abs() < 0.02
            && (value(&ticks, x + width, false) - 1.65).abs() < 0.02
    );
    let thin = feat.split("<line class=\"whisker\"").nth(1).expect("an interval over seeds");
    for (end, want) in [("x1", 0.95), ("x2", 1.95)] {
        assert!((value(&ticks, number(thin, end), false) - want).abs() < 0.02, "{end}");
    }
    // 54 points would flatten everything else: an arrow at the edge, the figure in words.
    assert_eq!(svg.matches("class=\"whisker arrow\"").count(), 2);
    assert!(svg.contains("−53.64 ± 0.50"));
}

#[test]
fn accuracy_and_laws_stand_where_they_were_measured() {
    let html = render(&study());
    let svg = drawing(&html, "Accuracy against base classes");
    let (x, y) = (ticks(svg, "x"), ticks(svg, "y"));
    let at =
        svg.find("<title>proto, 5 shots, 46 base classes: 70.00\u{202f}% ± 0.90</title>").expect("a point");
    let mark = &svg[svg[..at].rfind("<circle").unwrap()..at];
    assert!((value(&x, number(mark, "cx"), true) / 46.0 - 1.0).abs() < 0.02);
    assert!((value(&y, number(mark, "cy"), false) - 70.0).abs() < 0.2);

    let svg = drawing(&html, "Error against base classes");
    let (x, y) = (ticks(svg, "x"), ticks(svg, "y"));
    let line =
        svg.split("<path class=\"fit\" d=\"").nth(1).expect("a fitted line").split('"').next().unwrap();
    assert_eq!(svg.matches("class=\"fit\"").count(), 1, "what was not fitted has no line");
    for corner in line.trim_start_matches('M').split('L') {
        let (px, py) = corner.split_once(',').unwrap();
        let (x, y) = (value(&x, px.parse().unwrap(), true), value(&y, py.parse().unwrap(), true));
        assert!((y / (2.0 / x).powf(0.25) - 1.0).abs() < 0.01, "{x} {y}");
    }
    assert!(svg.contains("0.25 (0.22 to 0.29)") && html.contains("Too few settings"));
}

#[test]
fn the_headline_says_who_is_best_and_how_surely() {
    let html = render(&study());
    check(&html);
    assert!(html.contains("<i>feat</i> is best at 1 and 5 shots, 1.4 points above <i>proto</i> at 5 shots"));
    assert!(html.contains("helps at 1 shot (feat against proto: +1.22 ± 0.50 points)"));
    assert!(html.contains("stands at −53.6 ± 0.5 points to proto"));
    // The same means with wide intervals over seeds are no longer clear.
    let mut unsure = study();
    for d in unsure.differences.iter_mut().filter(|d| d.shots == 5) {
        d.difference.seeds_half = Some(0.02);
    }
    let html = render(&unsure);
    assert!(html.contains("<i>feat</i> is best at 1 shot and first but not clearly at 5 shots"));
    assert!(html.contains("makes no difference that can be told at 5 shots"));
    // A second that was compared directly is named, though the third lies nearer to what all are compared with.
    let mut led = study();
    led.leads.push(DifferenceRow {
        method: "feat".into(),
        against: "nearest-mean".into(),
        shots: 5,
        difference: interval(0.004, 0.001, 0.002),
    });
    assert!(render(&led).contains("0.4 points above <i>nearest-mean</i> at 5 shots"));
    // Without a reference nothing is said of attention.
    let mut alone = study();
    alone.differences.clear();
    let html = render(&alone);
    assert!(html.contains("No method without attention was compared"));
    assert!(html.contains("<i>feat</i> is first at 1 and 5 shots, without a paired comparison"));
}

#[test]
fn other_pictures_stand_beside_those_of_the_training() {
    let html = render(&study());
    check(&html);
    assert!(html.contains("On other pictures") && html.contains("<h3>Clipart</h3>"));
    let at = html.find("<h3>Clipart</h3>").unwrap();
    let table = &html[at..at + html[at..].find("</table>").unwrap()];
    for words in ["<b>55.00\u{202f}% ± 0.40</b>", "76.63\u{202f}%", "+3.00 ± 0.40 against proto"] {
        assert!(table.contains(words), "{words}: {table}");
    }
    let mut none = study();
    none.elsewhere.clear();
    assert!(!render(&none).contains("On other pictures"));
}

#[test]
fn what_is_missing_is_a_dash_with_its_reason() {
    let html = render(&study());
    assert!(html.contains("<span class=\"missing\" title=\"missing: no energy counter was read\">–</span>"));
    assert!(html.contains("– in energy: no energy counter was read."));
    for verdict in ["✓ holds", "✗ refuted", "? open"] {
        assert!(html.contains(verdict));
    }
    // 15 queries of an episode: feat names the right class, ccd the next one.
    assert!(
        html.contains("feat<small>15 of 15 right</small>")
            && html.contains("ccd<small>0 of 15 right</small>")
    );
    assert!(html.contains("<td class=\"wrong\">✗ 75\u{202f}% <span title=\"class 1\">class 1</span>"));
}

#[test]
fn the_same_input_draws_the_same_bytes_also_by_way_of_json() {
    let html = render(&study());
    assert!(html == render(&study()));
    let again: FewShotInput = serde_json::from_str(&serde_json::to_string(&study()).unwrap()).unwrap();
    assert!(html == render(&again));
}

#[test]
fn many_large_colour_pictures_stay_small_and_fetch_nothing() {
    let mut input = study();
    input.test.ways = 20;
    input.episodes = (0..3).map(|n| episode(n, 20, 84, 3)).collect();
    let html = render(&input);
    check(&html);
    assert!(html.len() < 1_000_000, "{} bytes", html.len());
    assert!(html.matches("<img").count() >= 160);
    assert_eq!(html.matches("src=").count(), html.matches("src=\"data:image/png;base64,").count());
    for text in ["http-equiv", "@import", "url(", "<link"] {
        assert!(!html.contains(text), "{text}");
    }
}

#[test]
fn text_from_outside_cannot_become_markup() {
    const EVIL: &str = "</script><img src=x onerror=alert(1)>\"'&\u{0}";
    let text = serde_json::to_string(&study()).unwrap();
    let mut evil = text;
    for word in [
        "feat",
        "proto",
        "class 1",
        "icons",
        "conv4-64",
        "open",
        "same episodes",
        "no energy counter was read",
    ] {
        let json = serde_json::to_string(EVIL).unwrap();
        evil = evil.replace(&format!("\"{word}\""), &format!("\"{word}{}", &json[1..]));
    }
    let mut input: FewShotInput = serde_json::from_str(&evil).unwrap();
    for field in [&mut input.name, &mut input.date, &mut input.version, &mut input.machine] {
        *field = EVIL.into();
    }
    input.notes = vec![EVIL.into()];
    input.recipe = vec![(EVIL.into(), EVIL.into())];
    input.elsewhere[0].set = EVIL.into();
    input.sweeps[0].axis = EVIL.into();
    input.laws[1].exponent = Err(EVIL.into());
    input.episodes[0].queries[0].picture.hex = EVIL.into();
    let html = render(&input);
    check(&html);
    assert!(!html.contains("<img src=x") && html.contains("&lt;img src=x"));
    assert_eq!(html.matches("</script>").count(), 1);
}

#[test]
fn a_study_of_laws_begins_with_them_and_says_where_they_end() {
    let mut input = study();
    input.rows.retain(|row| ["proto", "nearest-mean"].contains(&row.method.as_str()));
    input.differences.clear();
    let straight = ErrorLaw { method: "proto".into(), ..law() };
    // As the straight one, but the last of the points is hardly lower than the one before.
    let mut bent = ErrorLaw { axis: "width".into(), ..straight.clone() };
    bent.points[4].1 = 0.97 * bent.points[3].1;
    assert!(!straight.bends() && bent.bends());
    let (exponent, lo, hi) = straight.last_step().unwrap();
    assert!((exponent - 0.25).abs() < 1e-9 && lo < 0.25 && 0.25 < hi, "{exponent} ({lo} to {hi})");
    // What may as well rise is no headline.
    let unsure = ErrorLaw { axis: "images".into(), exponent: Ok((0.02, -0.03, 0.07)), ..straight.clone() };
    input.laws = vec![straight, bent, unsure];
    let html = render(&input);
    check(&html);
    let headline = "<h1>Errors fall as base classes<sup>−0.25</sup> and backbone width<sup>−0.25</sup></h1>";
    assert!(html.contains(headline));
    assert!(html.contains("With backbone width the fall slows at the end"));
    let rows: Vec<&str> = html.split("<tr>").filter(|row| row.contains("0.220 to 0.290")).collect();
    assert!(rows[0].contains(">0.250<") && rows[0].contains("56\u{202f}%"), "{}", rows[0]);
    assert!(rows[1].contains(", bends<") && !rows[1].contains("56\u{202f}%"), "{}", rows[1]);
}

#[test]
fn whatever_is_missing_or_no_number_the_page_stands() {
    let strip: [fn(&mut FewShotInput); 7] = [
        |i| i.rows.clear(),
        |i| i.differences.clear(),
        |i| i.episodes.clear(),
        |i| i.test = TestFacts { ways: 0, queries: 0, episodes: 0 },
        |i| i.rows.iter_mut().for_each(|r| r.accuracy = interval(f64::NAN, f64::INFINITY, f64::NAN)),
        |i| i.differences.iter_mut().for_each(|d| d.difference = interval(1e300, f64::NAN, f64::INFINITY)),
        |i| {
            i.laws[0].points[0] = (f64::NAN, -1.0, f64::INFINITY);
            i.laws[0].exponent = Ok((f64::NAN, f64::INFINITY, 0.0));
            i.laws[1].floor = f64::INFINITY;
            i.elsewhere[0].accuracy = interval(f64::NAN, f64::INFINITY, f64::NAN);
            i.sweeps[0].value = f64::NAN;
            i.sweeps[1].accuracy = interval(-1e308, f64::NAN, 0.0);
            i.episodes[0].support.clear();
            i.episodes[0].queries[0].class = 999;
        },
    ];
    for change in strip {
        let mut input = study();
        change(&mut input);
        check(&render(&input));
    }
}
