#!/usr/bin/env python3
"""Compares a mounted mailbox with the mail on the server, as Python's imaplib and email understand it.

    judge.py --port P --user alice --password W --mailbox MB --mount DIR [--wire NAME] [--uids 1:20] [--json]

For each message: `message.eml` has the bytes of BODY.PEEK[] and is not listed; every file has as many bytes as stat
said before and after it was opened; each leaf of the MIME tree is there exactly once (attachments as decoded, text as
UTF-8 with LF) and nothing else; `headers.txt` is UTF-8 with LF and has every field; the flags are as before.

Each difference is a line: UID, class, what (tab-separated, or JSON objects). The last line is a summary. Status 0
when there is none. Classes, the hard ones first:

  absent, extra      a message is only on the server, only in the mount
  eml, size, flags   other bytes in message.eml; stat differs from what is read; \\Seen and the like have changed
  error              an entry cannot be read
  leaf, file         a leaf without a file, a file without a leaf
  charset            a text whose characters are not those of the declared charset (both sides are shown)
  line-ends          a text that differs in line ends or in the empty lines at its end
  as-is              a text that is there as the bytes of the message, not as UTF-8 with LF
  decoding           a broken transfer encoding, decoded in another way than Python's
  headers            headers.txt is not UTF-8 with LF, or has another number of fields
"""
import argparse
import collections
import copy
import email
import email.message
import email.policy
import hashlib
import imaplib
import json
import os
import re
import sys

OWN = {"headers.txt", "message.eml"}
# Labels that the web's encoding standard knows and Python does not, or reads in a narrower way.
LABELS = {
    "iso-8859-1": "cp1252", "latin1": "cp1252", "us-ascii": "cp1252", "ascii": "cp1252", "iso-8859-9": "cp1254",
    "iso-8859-8-i": "iso-8859-8", "iso-8859-11": "cp874", "tis-620": "cp874", "windows-874": "cp874",
    "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc-kr": "cp949", "ks_c_5601-1987": "cp949",
    "big5": "big5hkscs", "x-mac-cyrillic": "mac_cyrillic", "macintosh": "mac_roman",
}


def decode(data, charset):
    try:
        return data.decode(charset, "replace")
    except (LookupError, UnicodeError, ValueError):
        return None


def texts(data, charset):
    """All that a reader may take these bytes for, given this declared charset; the likeliest first."""
    charset = (charset or "us-ascii").strip("'\" ").lower()
    names = [charset, LABELS.get(charset)]
    found = [decode(data, name) for name in names if name]
    if charset in ("us-ascii", "ascii") or not any(found):
        found = [decode(data, "utf-8"), decode(data, "cp1252"), decode(data, "ascii")] + found
    if charset.startswith("utf-16"):
        found += [decode(data, "utf-16-be"), decode(data, "utf-16-le")]
    return [plain(text) for text in found if text is not None]


def plain(text):
    """With LF, without a byte order mark; one replacement character for any run of them."""
    text = re.sub("\ufffd+", "\ufffd", text.replace("\r\n", "\n"))
    return text[1:] if text.startswith("\ufeff") else text


def loose(text):
    return re.sub(r"[\r\n]+", "\n", text).strip()


class Leaf:
    def __init__(self, part):
        self.type = part.get_content_type()
        if not re.fullmatch(r"[^\s/]+/[^\s/]+", self.type) or self.type.startswith("multipart/"):
            self.type = "text/plain"  # RFC 2045 section 5.2; and a multipart in which no boundary occurs
        self.broken = False
        encoding = str(part.get("Content-Transfer-Encoding", "")).lower()
        plain_encoding = re.sub(r"\([^)]*\)|;.*|\"", "", encoding).strip()
        if plain_encoding != encoding:
            part = copy.copy(part)
            del part["Content-Transfer-Encoding"]
            part["Content-Transfer-Encoding"] = encoding = plain_encoding
        data = part.get_payload(decode=True)
        if data is None:
            data = str(part.get_payload()).encode("utf-8", "surrogateescape")
        self.data = data
        self.encoded = bool(re.search("base64|quoted|uu", encoding))
        raw = part.get_payload()
        if "base64" in encoding and isinstance(raw, str):
            raw = re.sub(r"[\r\n]", "", raw)
            self.broken = not re.fullmatch(r"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", raw)
        elif self.encoded:
            self.broken = True  # quoted-printable and uuencode have many readings
        self.is_text = self.type.startswith("text/")
        attached = part.get_content_disposition() == "attachment" or part.get_filename() is not None
        self.as_text = self.is_text and not attached
        self.texts = texts(data, part.get_content_charset()) if self.is_text else []

    def __str__(self):
        return f"{self.type} of {len(self.data)} bytes"


def parse(data):
    """The message, with only message/rfc822 taken for a message: Python looks into any message/*, we do not."""
    def rename(match):
        new = b"application/x-" if match[2].lower() == b"global" else b"text/x-"
        return match[1] + new + match[2]
    data = re.sub(rb"(?im)^(content-type:\s*)message/(?!rfc822)([a-z-]+)", rename, data)
    return email.message_from_bytes(data, policy=email.policy.compat32)


def leaves(part):
    """The leaves of the tree, those of attached messages included."""
    payload = part.get_payload()
    if not part.is_multipart() or not isinstance(payload, list):
        return [Leaf(part)]
    encoding = str(part.get("Content-Transfer-Encoding", "")).lower()
    if part.get_content_type() == "message/rfc822" and encoding in ("base64", "quoted-printable"):
        # Against RFC 2045, and Python ignores it: what it took for the message is the encoded text.
        encoded = email.message.Message()
        encoded["Content-Type"], encoded["Content-Transfer-Encoding"] = "application/x-message", encoding
        encoded.set_payload(payload[0].as_string().lstrip("\n"))
        return [Leaf(encoded)]
    return [leaf for sub in payload for leaf in leaves(sub)]


class Judge:
    def __init__(self, args):
        self.args = args
        self.found = collections.Counter()
        self.files = self.parts = 0
        self.imap = imaplib.IMAP4("127.0.0.1", args.port)
        self.imap.login(args.user, args.password)
        wire = (args.wire or args.mailbox).replace("\\", "\\\\").replace('"', '\\"')
        status, answer = self.imap.select(f'"{wire}"', readonly=True)
        if status != "OK":
            sys.exit(f"judge.py: SELECT {wire}: {answer}")

    def differ(self, uid, kind, what):
        self.found[kind] += 1
        what = str(what)[:300]
        if self.args.json:
            print(json.dumps({"uid": uid, "class": kind, "what": what}, ensure_ascii=False))
        else:
            print(uid, kind, what.encode("unicode_escape").decode(), sep="\t")

    def fetch(self, uids, items):
        """Yields (uid, text, literal) of each message."""
        for start in range(0, len(uids), 50):
            chosen = ",".join(map(str, uids[start:start + 50]))
            _, answer = self.imap.uid("FETCH", chosen, f"(UID {items})")
            for item in answer:
                head, literal = item if isinstance(item, tuple) else (item, None)
                if head and (uid := re.search(rb"UID (\d+)", head)):
                    yield int(uid[1]), head.decode("latin-1"), literal

    def flags(self, uids):
        return {uid: re.search(r"FLAGS \(([^)]*)\)", text)[1] for uid, text, _ in self.fetch(uids, "FLAGS")}

    def run(self):
        _, answer = self.imap.uid("SEARCH", "UID", self.args.uids)
        uids = [int(uid) for uid in answer[0].split()]
        before = self.flags(uids)
        directory = os.path.join(self.args.mount, self.args.mailbox)
        names = {}
        for name in os.listdir(directory):
            if match := re.search(r"(?:^|\.)(\d+)$", name):
                names[int(match[1])] = os.path.join(directory, name)
        if self.args.uids == "1:*":
            for uid in sorted(set(names) - set(uids)):
                self.differ(uid, "extra", names[uid])
        for uid, _, data in self.fetch(uids, "BODY.PEEK[]"):
            if uid not in names:
                self.differ(uid, "absent", "no directory for this message")
                continue
            try:
                self.message(uid, names[uid], data or b"")
            except OSError as error:
                self.differ(uid, "error", error)
        after = self.flags(uids)
        for uid in uids:
            if before[uid] != after.get(uid):
                self.differ(uid, "flags", f"{before[uid]} became {after.get(uid)}")
        total = sum(self.found.values())
        summary = {"messages": len(uids), "leaves": self.parts, "files": self.files, "differences": total,
                   "classes": dict(sorted(self.found.items()))}
        print(json.dumps(summary) if self.args.json else
              f"{len(uids)} messages, {self.parts} leaves, {self.files} files: {total} differences "
              + " ".join(f"{kind}={count}" for kind, count in sorted(self.found.items())))
        return 1 if total else 0

    def read(self, uid, path):
        """The bytes of a file; stat must say the same before and after."""
        self.files += 1
        try:
            before = os.stat(path).st_size
            with open(path, "rb") as file:
                data = file.read()
            after = os.stat(path).st_size
        except OSError as error:
            self.differ(uid, "error", f"{os.path.basename(path)}: {error}")
            return None
        if before != len(data) or after != len(data):
            self.differ(uid, "size", f"{os.path.basename(path)}: {before} before, {len(data)} read, {after} after")
        return data

    def message(self, uid, directory, data):
        if "message.eml" in os.listdir(directory):
            self.differ(uid, "extra", "message.eml is listed")
        eml = self.read(uid, os.path.join(directory, "message.eml"))
        if eml is not None and eml != data:
            at = next((i for i, (a, b) in enumerate(zip(eml, data)) if a != b), min(len(eml), len(data)))
            self.differ(uid, "eml", f"{len(eml)} bytes for {len(data)}, first difference at {at}")
        parsed = parse(data)
        self.headers(uid, os.path.join(directory, "headers.txt"), parsed)
        files = {}
        for where, _, names in os.walk(directory, onerror=lambda error: self.differ(uid, "error", error)):
            for name in names:
                if name not in OWN:
                    path = os.path.join(where, name)
                    content = self.read(uid, path)
                    if content is not None:
                        files[os.path.relpath(path, directory)] = content
                elif where != directory:
                    self.read(uid, os.path.join(where, name))
        self.match(uid, leaves(parsed), files)

    def headers(self, uid, path, parsed):
        data = self.read(uid, path)
        if data is None:
            return
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            self.differ(uid, "headers", error)
            return
        fields = [line for line in text.rstrip("\n").split("\n") if line]
        if "\r" in text:
            self.differ(uid, "headers", "CR in headers.txt")
        elif len(fields) != len(parsed.keys()):
            self.differ(uid, "headers", f"{len(fields)} lines for {len(parsed.keys())} fields")

    def match(self, uid, wanted, files):
        self.parts += len(wanted)
        left = {name: (data, plain(data.decode("utf-8", "replace"))) for name, data in files.items()}
        tests = [
            (None, lambda leaf, data, text: leaf.as_text and text == (leaf.texts + [None])[0]),
            (None, lambda leaf, data, text: not leaf.as_text and data == leaf.data),
            (None, lambda leaf, data, text: leaf.as_text and text in leaf.texts),
            ("as-is", lambda leaf, data, text: leaf.as_text and data == leaf.data),
            # A text with a name may be shown as text, or as the file that it is.
            (None, lambda leaf, data, text: leaf.is_text and text in leaf.texts),
            ("line-ends", lambda leaf, data, text: loose(text) in map(loose, leaf.texts)),
            ("decoding", lambda leaf, data, text: leaf.broken),
            ("charset", lambda leaf, data, text: leaf.as_text and data and leaf.data),
        ]
        for kind, test in tests:
            for leaf in list(wanted):
                for name, (data, text) in left.items():
                    if test(leaf, data, text):
                        del left[name]
                        wanted.remove(leaf)
                        if kind in ("charset", "line-ends"):
                            self.differ(uid, kind, f"{name}: {text[:60]!r} for {(leaf.texts + [''])[0][:60]!r}")
                        elif kind:
                            self.differ(uid, kind, f"{name}: {len(data)} bytes for {leaf}")
                        break
        for leaf in wanted:
            self.differ(uid, "leaf", f"{leaf}, sha256 {hashlib.sha256(leaf.data).hexdigest()[:12]}")
        for name, (data, _) in left.items():
            self.differ(uid, "file", f"{name} of {len(data)} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, required=True, help="plaintext IMAP on 127.0.0.1")
    parser.add_argument("--user", default="alice")
    parser.add_argument("--password", default="wonderland")
    parser.add_argument("--mailbox", required=True, help="path of the mailbox in the mount")
    parser.add_argument("--wire", help="its name on the server, if that is another")
    parser.add_argument("--mount", required=True)
    parser.add_argument("--uids", default="1:*")
    parser.add_argument("--json", action="store_true")
    return Judge(parser.parse_args()).run()


if __name__ == "__main__":
    sys.exit(main())
