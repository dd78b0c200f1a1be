#!/usr/bin/env python3
"""Fills the demo's account: demo-mail.py PORT EXPECTED.

Appends a dozen messages as alice and writes EXPECTED: per line mailbox, UID, file, size, sha256 of what the mount must
show (file `message.eml` is the message as the server gives it). With --unseen it prints the number of unseen messages.
"""
import base64
import email.policy
import hashlib
import imaplib
import re
import struct
import sys
import zlib
from datetime import datetime, timedelta, timezone
from email.message import EmailMessage

NOW = datetime(2026, 11, 16, 8, 5, tzinfo=timezone.utc)


def png(size=96):
    """A colour gradient."""
    rows = b"".join(b"\0" + bytes(c for x in range(size) for c in (x * 255 // size, y * 255 // size, 160))
                    for y in range(size))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def pdf(lines):
    """One page of text."""
    text = "BT /F1 14 Tf 72 760 Td 20 TL " + " ".join(f"({line}) Tj T*" for line in lines) + " ET"
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R "
        "/Resources << /Font << /F1 5 0 R >> >> >>",
        f"<< /Length {len(text)} >>\nstream\n{text}\nendstream", "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    return out + (f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n"
                  f"<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF\n").encode()


def utf7(name):
    """Modified UTF-7 of a mailbox name (RFC 3501 section 5.1.3)."""
    def run(match):
        text = base64.b64encode(match[0].encode("utf-16-be")).decode().rstrip("=").replace("/", ",")
        return f"&{text}-"
    return re.sub("[^\x20-\x7e]+", run, name.replace("&", "&-"))


class Account:
    def __init__(self, port):
        self.imap = imaplib.IMAP4("127.0.0.1", port)
        self.imap.login("alice", "wonderland")
        self.expected, self.count = [], 0

    def create(self, mailbox):
        self.imap.create(f'"{utf7(mailbox)}"')

    def add(self, mailbox, sender, subject, text, flags="", html=None, files=(), forward=None):
        self.count += 1
        when = NOW + timedelta(hours=7 * self.count)
        message = EmailMessage(policy=email.policy.SMTP)
        message["From"], message["To"] = sender, "Alice Liddell <alice@example.org>"
        message["Subject"], message["Date"] = subject, when
        message["Message-ID"] = f"<demo-{self.count}@example.org>"
        message.set_content(text, cte="quoted-printable" if not text.isascii() else "7bit")
        if html:
            message.add_alternative(html, subtype="html")
        for name, kind, data in files:
            main, sub = kind.split("/")
            message.add_attachment(data, maintype=main, subtype=sub, filename=name)
        if forward:
            message.add_attachment(forward)
        data = message.as_bytes()
        answer = self.imap.append(f'"{utf7(mailbox)}"', f"({flags})", when, data)[1][0].decode()
        uid = re.search(r"APPENDUID \d+ (\d+)", answer)[1]
        for name, _, content in [("message.eml", "", data), *files]:
            self.expected.append((mailbox, uid, name, str(len(content)), hashlib.sha256(content).hexdigest()))
        return message


def fill(account):
    bob, carol = "Bob Müller <bob@example.org>", "Carol Díaz <carol@example.org>"
    news = "The Weekly <news@example.net>"
    report = pdf(["Weekly report", "Everything is on time.", "The cat is still smiling."])
    for mailbox in ("Projects", "Projects/Wonderland", "Archive", "Entwürfe alt"):
        account.create(mailbox)
    account.add("INBOX", bob, "Weekly report", "Hello Alice,\n\nthe report of this week is attached.\n\nBob\n",
                files=[("report.pdf", "application/pdf", report)])
    trip = account.add("INBOX", carol, "Grüße aus Köln", "Liebe Alice,\n\nder Dom ist größer als gedacht: 157 m!\n"
                       "Das Café daneben heißt „Zum Hasen“.\n\nGrüße aus Köln\nCarol\n", r"\Flagged",
                       files=[("Dom im Abendlicht.png", "image/png", png())])
    account.add("INBOX", bob, "Fwd: Grüße aus Köln", "Look what Carol writes.\n", forward=trip)
    account.add("INBOX", news, "Ten gardens to visit this winter", "Ten gardens.\n\n1. Oxford\n2. Köln\n", r"\Seen",
                html="<html><body><h1>Ten gardens</h1><ol><li>Oxford<li>Köln</ol></body></html>\n")
    account.add("INBOX", "日本語 <nihongo@example.org>", "会議のお知らせ", "明日の会議は十時からです。\n")
    account.add("INBOX", bob, "Re: Weekly report", "> Is the cat still smiling?\n\nYes, only the smile is left.\n")
    account.add("INBOX", carol, "Invitation: tea party", "Thursday at four, at the Hatter's.\n", files=[
        ("invite.ics", "text/calendar", b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\nUID:tea@example.org\r\n"
         b"DTSTART:20261126T160000Z\r\nSUMMARY:Tea party\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n")])
    account.add("INBOX", "shop@example.com", "Your order 1865/11 has been shipped", "Two looking-glasses, one watch.\n")
    account.add("Projects/Wonderland", bob, "Plan of the maze", "Version 3 of the plan.\n",
                files=[("maze v3.png", "image/png", png(160)), ("notes.txt", "text/plain", b"left, left, right\n")])
    account.add("Projects/Wonderland", carol, "Re: Plan of the maze", "Fine, but the exit is missing.\n")
    account.add("Archive", "Edwin <edwin@example.org>", "Minutes of 2025", "Nobody came.\n", r"\Seen")
    account.add("Entwürfe alt", "Alice <alice@example.org>", "(no title yet)", "To be continued …\n", r"\Draft \Seen")


def main():
    account = Account(int(sys.argv[1]))
    if sys.argv[2] == "--unseen":
        account.imap.select("INBOX", readonly=True)
        print(len(account.imap.search(None, "UNSEEN")[1][0].split()))
        return
    fill(account)
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.writelines("\t".join(row) + "\n" for row in account.expected)


if __name__ == "__main__":
    main()
