//! Odd file names of attachments, raw and in the encodings of RFC 2047 and RFC 2231.

use super::List;
use super::build::*;

/// What is odd, and the parameters after `Content-Disposition: attachment`.
const NAMES: &[(&str, &str)] = &[
    ("none", ""),
    ("empty", "; filename=\"\""),
    ("spaces", "; filename=\"  lead and trail  \""),
    ("unquoted", "; filename=plain.bin"),
    ("unquoted-spaces", "; filename=two words.bin"),
    ("unclosed-quote", "; filename=\"open.bin"),
    ("single-quotes", "; filename='single.bin'"),
    ("escaped-quotes", r#"; filename="a \"quoted\" name.bin""#),
    ("backslash", r#"; filename="C:\\temp\\x.bin""#),
    ("backslash-unescaped", r#"; filename="C:\temp\x.bin""#),
    ("parent", "; filename=\"../../etc/passwd\""),
    ("absolute", "; filename=\"/etc/passwd\""),
    ("slashes", "; filename=\"a/b/c.txt\""),
    ("dot", "; filename=\".\""),
    ("dot-dot", "; filename=\"..\""),
    ("hidden", "; filename=\".bashrc\""),
    ("dash", "; filename=\"-rf\""),
    ("tilde", "; filename=\"~root\""),
    ("trailing-dot", "; filename=\"x.exe. \""),
    ("glob", "; filename=\"*[1]?.bin\""),
    ("percent", "; filename=\"100%25%2e%2e.bin\""),
    ("device", "; filename=\"CON\""),
    ("own-body", "; filename=\"body.txt\""),
    ("own-headers", "; filename=\"headers.txt\""),
    ("own-message", "; filename=\"message.eml\""),
    ("own-numbered", "; filename=\"body.2.txt\""),
    ("own-forwarded", "; filename=\"forwarded-1\""),
    ("two-extensions", "; filename=\"a.tar.gz\""),
    ("no-extension", "; filename=\"README\""),
    ("shell", "; filename=\"$(touch x);`id`|&.bin\""),
    ("escape", "; filename=\"\x1b[2Jx.bin\""),
    ("tab", "; filename=\"a\tb.bin\""),
    ("folded", ";\r\n filename=\"folded\r\n name.bin\""),
    ("twice", "; filename=\"first.bin\"; filename=\"second.bin\""),
    ("utf8-raw", "; filename=\"Grüße 日本.bin\""),
    ("upper-case-key", "; FILENAME=\"upper.bin\""),
    ("word-q", "; filename=\"=?utf-8?Q?Gr=C3=BC=C3=9Fe.bin?=\""),
    ("word-b", "; filename=\"=?utf-8?B?UHLDvGZ1bmcucGRm?=\""),
    ("word-unquoted", "; filename==?iso-8859-1?Q?Gr=FC=DFe.bin?="),
    ("word-two", "; filename=\"=?utf-8?Q?one?= =?utf-8?Q?two.bin?=\""),
    ("word-slash", "; filename=\"=?utf-8?Q?..=2F..=2Fx.bin?=\""),
    ("word-nul", "; filename=\"=?utf-8?Q?a=00b.bin?=\""),
    ("2231-utf8", "; filename*=utf-8''%C3%9Cbersicht%20%E2%82%AC.png"),
    ("2231-latin1", "; filename*=iso-8859-1'de'%DCber.txt"),
    ("2231-split", "; filename*0=\"one \"; filename*1=\"two\"; filename*2=\".txt\""),
    ("2231-split-encoded", "; filename*0*=utf-8''%E6%97; filename*1*=%A5.txt"),
    ("2231-mixed", "; filename*0*=iso-8859-1'de'%DCber; filename*1=sicht; filename*2*=%2Etxt"),
    ("2231-order", "; filename*1=\"b.txt\"; filename*0=\"a\""),
    ("2231-gap", "; filename*0=\"a\"; filename*2=\"c.txt\""),
    ("2231-both", "; filename=\"plain.txt\"; filename*=utf-8''preferred.txt"),
    ("2231-no-charset", "; filename*=''x%41.txt"),
    ("2231-no-quotes", "; filename*=x%41.txt"),
    ("2231-bad-percent", "; filename*=utf-8''a%ZZ%4.txt"),
    ("2231-bad-charset", "; filename*=x-none''a%FF.txt"),
    ("2231-slash", "; filename*=utf-8''..%2F..%2Fx.txt"),
    ("2231-nul", "; filename*=utf-8''nul%00byte.txt"),
    ("2231-newline", "; filename*=utf-8''new%0Aline.txt"),
    ("2231-bidi", "; filename*=utf-8''invoice%E2%80%AEfdp.exe"),
    ("2231-bad-utf8", "; filename*=utf-8''%FF%FE.txt"),
    ("2231-zero-width", "; filename*=utf-8''a%E2%80%8Bb%EF%BB%BF.txt"),
];

pub fn add(list: &mut List) {
    for (index, (name, parameters)) in NAMES.iter().enumerate() {
        let name = format!("name-{name}");
        let data = format!("the content of {name}\n");
        let part = attachment("application/octet-stream", parameters, data.repeat(index % 3 + 1).as_bytes());
        list.add(&name, with_part(&name, part));
    }
    let long = [("long-400", "x".repeat(400) + ".txt"), ("long-utf8", "日".repeat(120) + ".txt")];
    let long = long.into_iter().chain([("long-extension", format!("a.{}", "e".repeat(300)))]);
    for (name, text) in long {
        let name = format!("name-{name}");
        let part = attachment("application/octet-stream", format!("; filename=\"{text}\""), name.as_bytes());
        list.add(&name, with_part(&name, part));
    }
    let many: String = (0..60).map(|n| format!(";\r\n filename*{n}=\"p{n}\"")).collect();
    list.add("name-2231-60-pieces", with_part("name-2231-60-pieces", attachment("image/png", many, &png())));
    let only_in_type = part("application/pdf; name=\"only-in-type.pdf\"", &[CTE64], base64_lines(b"%PDF-1.4\n", 76));
    list.add("name-in-type", with_part("name-in-type", only_in_type));
    let one_each: Vec<_> = ["same.txt", "same.txt", "SAME.TXT", "same.2.txt", "Cafe\u{301}.txt", "Caf\u{e9}.txt"]
        .iter()
        .enumerate()
        .map(|(n, name)| {
            attachment("text/plain", format!("; filename=\"{name}\""), format!("number {n}\r\n").as_bytes())
        })
        .collect();
    list.add("names-clash", multipart("names-clash", "mixed", &one_each));
    let types = [
        "image/jpeg",
        "text/csv",
        "application/pdf",
        "audio/mpeg",
        "video/mp4",
        "application/json",
        "x/y",
        "text/plain",
    ];
    let nameless: Vec<_> = types.iter().map(|kind| attachment(kind, "", kind.as_bytes())).collect();
    list.add("names-from-types", multipart("names-from-types", "mixed", &nameless));
    let latin1 = attachment("application/octet-stream", b"; filename=\"Gr\xfc\xdfe.bin\"", b"raw");
    list.add("name-latin1-raw", with_part("name-latin1-raw", latin1));
}
