//! Odd structures: multiparts, messages in messages, headers, empty and broken ones.

use super::List;
use super::build::*;

pub fn add(list: &mut List) {
    classics(list);
    multiparts(list);
    messages_in_messages(list);
    headers(list);
    crypto(list);
    kinds(list);
}

fn classics(list: &mut List) {
    let text = |name, body: &[u8]| message(name, name, &["Content-Type: text/plain; charset=\"utf-8\"", CTE8], body);
    list.add_with("plain", r"\Seen", text("plain", TEXT.as_bytes()));
    list.add_with("alternative", r"\Flagged", multipart("alternative", "alternative", &[plain(), html()]));
    let flags = r"\Seen \Answered \Flagged \Draft $Forwarded $label1 imapfs-Key";
    list.add_with("flags", flags, text("flags", TEXT.as_bytes()));
    list.add_with("deleted", r"\Deleted", text("deleted", TEXT.as_bytes()));
    list.add("no-content-type", message("no-content-type", "no content type", &[], TEXT));
    list.add("utf8-8bit", text("utf8-8bit", "Grüße, 日本語, Привет, 😀\r\n".as_bytes()));
    list.add("body-empty", text("body-empty", b""));
    list.add("body-crlf", text("body-crlf", b"\r\n"));
    list.add("body-many-empty-lines", text("body-many-empty-lines", &b"\r\n".repeat(500)));
    list.add("body-dots", text("body-dots", b".\r\n..\r\n.\r\nend\r\n"));
    list.add("body-from-lines", text("body-from-lines", b"From here on\r\n>From there\r\n\r\nFrom me\r\n"));
    list.add("lines-long", text("lines-long", &[b'w'; 20_000]));
    list.add("lines-998", text("lines-998", &[&[b'x'; 998][..], b"\r\n"].concat().repeat(3)));
    list.add("lines-bare-lf", text("lines-bare-lf", b"one\ntwo\nthree\n"));
    list.add("lines-mixed", text("lines-mixed", b"one\r\ntwo\nthree\rfour\r\n"));
    list.add("lines-bare-cr", text("lines-bare-cr", b"one\rtwo\r\nthree\r"));
    list.add("no-final-line-end", text("no-final-line-end", b"last line"));
    list.add(
        "control-characters",
        text("control-characters", b"bell \x07 escape \x1b[31mred\x1b[0m form feed \x0c\r\n"),
    );
    list.add("form-feed-only", text("form-feed-only", b"\x0c\r\n"));
    list.add("headers-none", b"\r\nonly a body, no header at all\r\n".to_vec());
    list.add("headers-garbage", b"this is not a header\r\nneither: is this one\r\n\r\nbody\r\n".to_vec());
    list.add("header-only", b"Subject: only a header, not even an empty line\r\n".to_vec());
    list.add("one-byte", b"x".to_vec());
}

fn multiparts(list: &mut List) {
    let bin =
        |name: &str, seed| attachment("application/octet-stream", format!("; filename=\"{name}\""), &noise(900, seed));
    for kind in ["mixed", "related", "parallel", "x-unknown", "appledouble", "form-data"] {
        let name = format!("multipart-{kind}");
        list.add(&name, multipart(&name, kind, &[plain(), html(), bin("a.bin", 1)]));
    }
    let image = part(
        "image/png; name=\"i.png\"",
        &[CTE64, "Content-ID: <i@x>", "Content-Disposition: inline"],
        base64_lines(&png(), 76),
    );
    let page = part("text/html; charset=\"utf-8\"", &[], "<img src=\"cid:i@x\">\r\n");
    let related = inner_multipart("related", "rel", &[page.clone(), image.clone()]);
    let nest = |name: &str, parts: &[Vec<u8>]| multipart(name, "mixed", parts);
    list.add("related-in-alternative", multipart("related-in-alternative", "alternative", &[plain(), related.clone()]));
    let alternative = inner_multipart("alternative", "alt", &[plain(), related.clone()]);
    list.add("alternative-in-mixed", nest("alternative-in-mixed", &[alternative.clone(), bin("b.bin", 2)]));
    let in_related = [inner_multipart("alternative", "alt", &[plain(), page]), image];
    list.add("alternative-in-related", multipart("alternative-in-related", "related", &in_related));
    list.add("html-first", multipart("html-first", "alternative", &[html(), plain()]));
    list.add("html-only", message("html-only", "html only", &["Content-Type: text/html"], "<p>Hi</p>\r\n"));
    list.add(
        "alternative-twice",
        nest("alternative-twice", &[alternative.clone(), inner_multipart("alternative", "alt2", &[plain(), html()])]),
    );
    list.add("text-attachment-text", nest("text-attachment-text", &[plain(), bin("c.bin", 3), plain(), html()]));
    list.add("attachment-first", nest("attachment-first", &[bin("d.bin", 4), plain()]));
    list.add(
        "attachment-only",
        message("attachment-only", "only a picture", &["Content-Type: image/png", CTE64], base64_lines(&png(), 76)),
    );
    list.add("many-texts", nest("many-texts", &vec![plain(); 30]));
    let hundred: Vec<_> = (0..100).map(|n| bin(&format!("file-{n}.bin"), n)).collect();
    list.add("parts-100", nest("parts-100", &hundred));
    list.add("parts-same-name-30", nest("parts-same-name-30", &vec![bin("same.bin", 9); 30]));
    list.add("parts-none", nest("parts-none", &[]));
    list.add("part-one", nest("part-one", &[plain()]));
    list.add(
        "parts-empty",
        nest(
            "parts-empty",
            &[part("text/plain", &[], ""), part("image/png", &[CTE64], ""), part("text/html", &[], "")],
        ),
    );
    list.add("part-no-header", nest("part-no-header", &[b"\r\nno header, so text\r\n".to_vec(), bin("e.bin", 5)]));
    list.add("part-no-empty-line", nest("part-no-empty-line", &[b"Content-Type: text/plain".to_vec(), plain()]));
    list.add(
        "part-header-only",
        nest("part-header-only", &[b"Content-Type: text/plain\r\nX-A: b\r\n".to_vec(), plain()]),
    );
    let mut deep = plain();
    for level in (1..50).rev() {
        deep = inner_multipart("mixed", &format!("=_level{level}"), &[deep]);
    }
    list.add("deep-50", nest("deep-50", &[deep]));
    list.add(
        "digest",
        multipart(
            "digest",
            "digest",
            &[
                // No header of its own: within a digest it is a message.
                [b"\r\n".to_vec(), entity(&["Subject: one", "From: a@b"], "first\r\n")].concat(),
                part("message/rfc822", &[], message("d2", "two", &[], TEXT)),
            ],
        ),
    );
    // How the boundary is given and met.
    let field = |value: &str| format!("Content-Type: multipart/mixed; {value}");
    let body = multipart_body("b", &[plain(), bin("f.bin", 6)]);
    let cases: [(&str, &str, Vec<u8>); 16] = [
        ("boundary-never", "boundary=\"never\"", TEXT.into()),
        ("boundary-missing", "charset=us-ascii", body.clone()),
        ("boundary-empty", "boundary=\"\"", body.clone()),
        ("boundary-unquoted", "boundary=b", body.clone()),
        ("boundary-upper-case-key", "BOUNDARY=\"b\"", body.clone()),
        ("boundary-spaces", "boundary = \"b\"", body.clone()),
        ("boundary-folded", "\r\n\tboundary=\"b\"", body.clone()),
        ("boundary-comment", "boundary=\"b\" (a comment)", body.clone()),
        ("boundary-twice", "boundary=\"b\"; boundary=\"c\"", body.clone()),
        ("boundary-2231", "boundary*0=\"b\"; boundary*1=\"\"", body.clone()),
        ("boundary-unclosed", "boundary=\"b\"", unclosed_body("b", &[plain(), bin("g.bin", 7)])),
        ("boundary-closed-first", "boundary=\"b\"", [b"--b--\r\n".to_vec(), body.clone()].concat()),
        (
            "boundary-preamble-epilogue",
            "boundary=\"b\"",
            [b"before\r\n\r\n".to_vec(), body.clone(), b"\r\nafter\r\n--b\r\nnot a part\r\n".to_vec()].concat(),
        ),
        (
            "boundary-trailing-space",
            "boundary=\"b\"",
            String::from_utf8_lossy(&body).replace("--b\r\n", "--b \t \r\n").into(),
        ),
        (
            "boundary-odd-characters",
            "boundary=\"'()+_,-./:=? b\"",
            multipart_body("'()+_,-./:=? b", &[plain(), html()]),
        ),
        (
            "boundary-70",
            &format!("boundary=\"{}\"", "7".repeat(70)),
            multipart_body(&"7".repeat(70), &[plain(), html()]),
        ),
    ];
    for (name, value, body) in cases {
        list.add(name, message(name, name, &[&field(value)], body));
    }
    let inner = inner_multipart("mixed", "outer-inner", &[plain(), bin("h.bin", 8)]);
    let prefix = multipart_body("outer", &[inner, html()]);
    list.add(
        "boundary-prefix",
        message("boundary-prefix", "one boundary begins like the other", &[&field("boundary=outer")], prefix),
    );
    let same = multipart_body("b", &[inner_multipart("mixed", "b", &[plain()]), html()]);
    list.add(
        "boundary-same-inside",
        message("boundary-same-inside", "the same boundary inside", &[&field("boundary=b")], same),
    );
    let cut = unclosed_body("b", &[part("multipart/mixed; boundary=c", &[], unclosed_body("c", &[plain()])), html()]);
    list.add(
        "boundary-inner-unclosed",
        message("boundary-inner-unclosed", "the inner one is not closed", &[&field("boundary=b")], cut),
    );
}

fn messages_in_messages(list: &mut List) {
    let inner = message(
        "inner",
        "the forwarded one",
        &["Content-Type: text/plain; charset=\"utf-8\"", CTE8],
        "Forwarded body: ünïcode\r\n",
    );
    let inner_multi =
        with_part("inner-multi", attachment("application/octet-stream", "; filename=\"inner.bin\"", &noise(500, 2)));
    let forwarded = |fields: &[&str], body: &[u8]| part("message/rfc822", fields, body);
    let named = "Content-Disposition: attachment; filename=\"fwd.eml\"";
    list.add(
        "rfc822-nested",
        multipart("rfc822-nested", "mixed", &[plain(), forwarded(&[named], &inner), forwarded(&[], &inner_multi)]),
    );
    list.add(
        "rfc822-top",
        message("rfc822-top", "message/rfc822 at the top", &["Content-Type: message/rfc822"], &inner_multi),
    );
    list.add("rfc822-base64", with_part("rfc822-base64", forwarded(&[CTE64], &base64_lines(&inner, 76))));
    list.add("rfc822-empty", with_part("rfc822-empty", forwarded(&[], b"")));
    list.add("rfc822-global", with_part("rfc822-global", part("message/global", &[CTE8], &inner)));
    list.add(
        "rfc822-headers",
        with_part("rfc822-headers", part("text/rfc822-headers", &[], "Subject: bounced\r\nFrom: x@y\r\n")),
    );
    let mut deep = inner.clone();
    for level in 0..20 {
        deep = message(&format!("level-{level}"), &format!("level {level}"), &["Content-Type: message/rfc822"], deep);
    }
    list.add("deep-rfc822-20", deep);
    let status = "Reporting-MTA: dns; mx.example.test\r\n\r\nFinal-Recipient: rfc822; bob@example.test\r\nAction: failed\r\nStatus: 5.1.1\r\n";
    let report = [plain(), part("message/delivery-status", &[], status), forwarded(&[], &inner)];
    list.add("report-dsn", multipart("report-dsn", "report; report-type=delivery-status", &report));
    let read =
        "Final-Recipient: rfc822;bob@example.test\r\nDisposition: manual-action/MDN-sent-manually; displayed\r\n";
    let mdn = [plain(), part("message/disposition-notification", &[], read)];
    list.add("report-mdn", multipart("report-mdn", "report; report-type=disposition-notification", &mdn));
    let external = "message/external-body; access-type=URL; URL=\"https://example.test/x\"";
    list.add(
        "external-body",
        with_part("external-body", part(external, &[], "Content-Type: image/png\r\n\r\nphantom\r\n")),
    );
    list.add(
        "partial",
        message(
            "partial",
            "part 2 of 3",
            &["Content-Type: message/partial; id=\"p@x\"; number=2; total=3"],
            "in the middle\r\n",
        ),
    );
}

fn headers(list: &mut List) {
    let with = |name: &str, fields: &[&[u8]]| {
        let all: Vec<Vec<u8>> = head(name, name).into_iter().map(String::into_bytes).collect();
        let all: Vec<Vec<u8>> = all.into_iter().chain(fields.iter().map(|field| field.to_vec())).collect();
        entity(&all, TEXT)
    };
    let long = format!("X-Long: {}", vec!["y".repeat(70); 1440].join("\r\n "));
    list.add("header-100k", with("header-100k", &[long.as_bytes()]));
    list.add("header-flat-900", with("header-flat-900", &[format!("X-Flat: {}", "z".repeat(900)).as_bytes()]));
    list.add("header-many", with("header-many", &vec![b"X-Many: again".as_slice(); 300]));
    list.add("header-tabs", with("header-tabs", &[b"X-Tabs:\tone\r\n\ttwo\r\n \t three\t"]));
    list.add("header-empty-value", with("header-empty-value", &[b"X-Empty:", b"X-Blank:   "]));
    list.add("header-8bit-utf8", with("header-8bit-utf8", &["X-Name: Grüße".as_bytes()]));
    list.add("header-8bit-latin1", with("header-8bit-latin1", &[b"X-Latin: \xe4\xf6\xfc"]));
    list.add("header-escape", with("header-escape", &[b"X-Escape: \x1b]0;title\x07\x1b[2J"]));
    list.add(
        "header-content-twice",
        with("header-content-twice", &[b"Content-Type: text/plain", b"Content-Type: text/html"]),
    );
    list.add("header-group", with("header-group", &[b"Cc: friends: a@x.test, \"B, C\" <b@x.test>;, nobody:;"]));
    list.add("header-comments", with("header-comments", &[b"Reply-To: (a (nested) comment) x@y.test (\\) more)"]));
    let subject = |name: &str, subject: &str| message(name, subject, &[], TEXT);
    let long_subject = vec!["long subject"; 80].join("\r\n ");
    let cases = [
        ("subject-slashes", "a/b\\c: ../..  <x>|?*\"q\" %41 \t end. "),
        ("subject-long", &long_subject),
        ("subject-empty", ""),
        ("subject-dots", ".."),
        ("subject-dash", "-rf *"),
        ("subject-tilde", "~root"),
        ("subject-reply", "Re: Re[2]: AW: Fwd: [list] x"),
        ("subject-emoji", "=?utf-8?B?8J+RqeKAjfCfkanigI3wn5Gn4oCN8J+Rpg==?= family"),
        ("subject-bidi", "=?utf-8?Q?invoice=E2=80=AEfdp.exe?="),
        ("subject-split-word", "=?utf-8?B?w?= =?utf-8?B?tzDtg==?="),
        ("subject-split-character", "=?utf-8?Q?K=C3?= =?utf-8?Q?=B6ln?="),
        ("subject-bad-word", "=?utf-8?X?abc?= =?utf-8?B?!!!?= =?nonsense =?= =??="),
        ("subject-koi8", "=?koi8-r?B?8NLJ18XU?="),
        ("subject-language", "=?iso-8859-1*de?Q?Gr=FC=DFe?="),
        ("subject-decomposed", "=?utf-8?Q?Cafe=CC=81?="),
        ("subject-newline-inside", "=?utf-8?Q?one=0D=0ABcc:_x@y?="),
        ("subject-only-controls", "=?utf-8?Q?=00=01=1B?="),
        ("subject-looks-like-uid", "report.1742"),
        ("subject-looks-like-view", ".eml"),
    ];
    for (name, text) in cases {
        list.add(name, subject(name, text));
    }
    let without = |name: &str, field: &str| {
        let fields: Vec<String> = head(name, name).into_iter().filter(|line| !line.starts_with(field)).collect();
        entity(&fields, TEXT)
    };
    list.add("subject-none", without("subject-none", "Subject"));
    list.add("from-none", without("from-none", "From"));
    list.add("date-none", without("date-none", "Date"));
    for (name, from) in [
        ("from-empty", ""),
        ("from-bare", "carol@example.test"),
        ("from-quoted", "\"Carol \\\"C\\\" /../ <x>\" <carol@example.test>"),
        ("from-two", "a@x.test, b@x.test"),
        ("from-garbage", "<<>> @ ;;"),
        ("from-null", "<>"),
    ] {
        let fields: Vec<String> = head(name, name)
            .into_iter()
            .map(|line| if line.starts_with("From:") { format!("From: {from}") } else { line })
            .collect();
        list.add(name, entity(&fields, TEXT));
    }
    list.add("date-bad", entity(&["From: a@x.test", "Subject: bad date", "Date: yesterday"], TEXT));
    list.add("date-far", entity(&["From: a@x.test", "Subject: far", "Date: Fri, 31 Dec 9999 23:59:60 -1200"], TEXT));
    list.add("message-id-twice", message("plain", "same Message-ID as the first", &[], TEXT));
}

fn crypto(list: &mut List) {
    let p7s =
        attachment("application/pkcs7-signature; name=\"smime.p7s\"", "; filename=\"smime.p7s\"", &noise(1200, 6));
    let kind = "signed; protocol=\"application/pkcs7-signature\"; micalg=sha-256";
    list.add("smime-signed", multipart("smime-signed", kind, &[plain(), p7s]));
    let fields = [
        "Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=\"smime.p7m\"",
        CTE64,
        "Content-Disposition: attachment; filename=\"smime.p7m\"",
    ];
    list.add("smime-enveloped", message("smime-enveloped", "encrypted", &fields, base64_lines(&noise(2000, 7), 76)));
    let armour = |what: &str, data: &[u8]| {
        let body = String::from_utf8(base64_lines(data, 64)).unwrap();
        format!("-----BEGIN PGP {what}-----\r\n\r\n{body}-----END PGP {what}-----\r\n")
    };
    let signature = part("application/pgp-signature; name=\"signature.asc\"", &[], armour("SIGNATURE", &noise(200, 8)));
    let kind = "signed; protocol=\"application/pgp-signature\"; micalg=pgp-sha512";
    list.add("pgp-signed", multipart("pgp-signed", kind, &[plain(), signature]));
    let data = part("application/octet-stream; name=\"encrypted.asc\"", &[], armour("MESSAGE", &noise(600, 9)));
    let parts = [part("application/pgp-encrypted", &[], "Version: 1\r\n"), data];
    list.add("pgp-encrypted", multipart("pgp-encrypted", "encrypted; protocol=\"application/pgp-encrypted\"", &parts));
    list.add("pgp-inline", message("pgp-inline", "inline", &[], armour("MESSAGE", &noise(300, 10))));
}

fn kinds(list: &mut List) {
    let event = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nUID:1\r\nSUMMARY:Besprechung über alles\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";
    let invitation = part("text/calendar; method=REQUEST; charset=UTF-8", &[CTE8], event);
    list.add("calendar", multipart("calendar", "alternative", &[plain(), html(), invitation]));
    list.add(
        "calendar-only",
        message("calendar-only", "invitation", &["Content-Type: text/calendar; charset=utf-8", CTE8], event),
    );
    list.add(
        "vcard",
        with_part(
            "vcard",
            attachment(
                "text/vcard; charset=utf-8",
                "; filename=bob.vcf",
                "BEGIN:VCARD\r\nFN:Böb\r\nEND:VCARD\r\n".as_bytes(),
            ),
        ),
    );
    list.add(
        "csv-latin1",
        with_part("csv-latin1", attachment("text/csv; charset=iso-8859-1", "; filename=t.csv", b"Stra\xdfe;1\r\n")),
    );
    for (name, parameters) in [("flowed", "format=flowed"), ("flowed-delsp", "format=flowed; delsp=yes")] {
        let body = "> quoted text that \r\n> flows on\r\n>> deeper\r\n\r\nA paragraph that \r\nflows \r\non.\r\n -- not a signature\r\n-- \r\nAlice\r\n";
        list.add(name, message(name, name, &[&format!("Content-Type: text/plain; charset=utf-8; {parameters}")], body));
    }
    for n in 1..=3 {
        let name = format!("patch-{n}");
        let subject = format!("[PATCH v2 {n}/3] tests: take care of case {n}");
        let body = format!(
            "Explain.\r\n\r\nSigned-off-by: Alice <alice@example.test>\r\n---\r\n a.c | 2 +-\r\n\r\ndiff --git a/a.c b/a.c\r\n--- a/a.c\r\n+++ b/a.c\r\n@@ -{n} +{n} @@\r\n-old \r\n+\tnew\r\n-- \r\n2.39.2\r\n"
        );
        let fields = ["In-Reply-To: <patch-1@corpus.example.test>", "List-Id: <list.example.test>"];
        list.add(&name, message(&name, &subject, &fields, body));
    }
    for (name, content_type) in [
        ("type-broken", "text"),
        ("type-empty", ""),
        ("type-slash", "/"),
        ("type-spaces", "text / plain ; charset = utf-8"),
        ("type-unknown", "x-odd/x-thing"),
        ("type-upper", "TEXT/PLAIN; CHARSET=UTF-8"),
        ("type-parameters-broken", "text/plain; charset; =x; ;; name=\"a"),
        ("type-long", &format!("text/{}", "x".repeat(300))),
        ("type-comment", "text/plain (a comment); charset=us-ascii"),
    ] {
        list.add(name, message(name, name, &[&format!("Content-Type: {content_type}")], TEXT));
    }
}
