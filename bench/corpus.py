#!/usr/bin/env python3
"""English prose and documentation out of Debian 12's packages: one text, the same for everybody, never kept in git.

    bench/corpus.py [--out build/corpus/text.txt] [--debs build/corpus/debs]

bench/corpus.tsv names the packages: version, sha256 of the .deb, the files to take (a regular expression of paths).
Each is fetched by `apt-get download`, held to its hash and never installed; of HTML and XML the text is kept,
paragraph by paragraph, and each paragraph once: navigation and licences that every page repeats fall away. The text
must have the hash in the table's last line. Done already: does nothing.
--pin: fetches the versions that apt has now and writes their hashes and the text's into the table.
"""
import argparse
import concurrent.futures
import gzip
import hashlib
import html.parser
import os
import pathlib
import re
import subprocess
import sys
import tarfile

HERE = pathlib.Path(__file__).resolve().parent
TABLE = HERE / "corpus.tsv"
BLOCKS = {"address", "article", "blockquote", "body", "br", "caption", "center", "code-block", "dd", "desc", "div", "dl",
          "dt", "figcaption", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "item", "li",
          "main", "ol", "option", "p", "para", "pre", "section", "simpara", "screen", "steps", "summary", "table", "tbody",
          "td", "th", "thead", "title", "tr", "ul"}
DROPPED = {"script", "style", "nav", "head", "select", "button", "math", "svg", "info"}
KEPT_LINES = {"pre", "screen", "programlisting"}
SHORTEST = 3  # words of a paragraph outside of a listing


def fail(what):
    sys.exit(f"corpus: error: {what}")


class Page(html.parser.HTMLParser):
    """The paragraphs of an HTML or XML page."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.paragraphs, self.words, self.dropped, self.listings = [], [], [], 0

    def end(self):
        text = "".join(self.words)
        self.words.clear()
        text = text.strip("\n").rstrip() if self.listings else " ".join(text.split())
        if text.strip():
            self.paragraphs.append(text)

    def handle_starttag(self, tag, attributes):
        if self.dropped:
            if tag == self.dropped[0]:
                self.dropped.append(tag)
            return
        if tag in DROPPED:
            self.dropped.append(tag)
            return
        if tag in BLOCKS or tag in KEPT_LINES:
            self.end()
        self.listings += tag in KEPT_LINES

    def handle_endtag(self, tag):
        if self.dropped:
            if tag == self.dropped[0]:
                self.dropped.pop()
            return
        if tag in BLOCKS or tag in KEPT_LINES:
            self.end()
        if tag in KEPT_LINES and self.listings:
            self.listings -= 1

    def handle_startendtag(self, tag, attributes):
        if not self.dropped and tag in BLOCKS:
            self.end()

    def handle_data(self, data):
        if not self.dropped:
            self.words.append(data)


def of_page(text):
    page = Page()
    page.feed(text)
    page.close()
    page.end()
    return page.paragraphs


def of_plain(text):
    """Paragraphs of lines; the menus and headers of Info files are not text."""
    out = []
    for part in re.split(r"\n\s*\n", text.replace("\f", "\n\n").replace("\x1f", "\n\n")):
        lines = [line.rstrip() for line in part.expandtabs().split("\n")]
        lines = [line for line in lines if not re.match(r"File: \S+,|\* [^:]+::|\* Menu:|[-=~^*+#. ]+$", line)]
        paragraph = "\n".join(lines).strip("\n")
        if paragraph.strip():
            out.append(paragraph)
    return out


def worth(paragraph):
    words = paragraph.split()
    letters = sum(c.isascii() and (c.isalpha() or c == " ") for c in paragraph)
    return len(words) >= SHORTEST and letters > 0.6 * len(paragraph)


def text_of(deb, wanted):
    """Of the .deb's files whose path matches, in the order of their paths."""
    files = {}
    archive = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE)
    with tarfile.open(fileobj=archive.stdout, mode="r|") as members:
        for member in members:
            if member.isfile() and re.search(wanted, member.name):
                files[member.name] = members.extractfile(member).read()
    if archive.wait():
        fail(f"{deb} is no package that dpkg-deb reads")
    paragraphs = []
    for name in sorted(files):
        data = files[name]
        if name.endswith((".gz", ".dz")):
            data = gzip.decompress(data)
            name = name[:-3]
        text = data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\ufffd", " ").replace("\xa0", " ")
        page = re.search(r"\.(x?html?|page|xml)(\.en|\.utf8)*$", name) or text.lstrip()[:9].lower() == "<!doctype"
        paragraphs += of_page(text) if page else of_plain(text)
    return paragraphs


def read_table():
    rows = [line.split("\t") for line in TABLE.read_text().splitlines() if line and not line.startswith("#")]
    return rows[:-1], rows[-1]


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def deb_of(folder, package, version, digest):
    """The package's file in the folder, fetched if need be. Without a digest any version will do."""
    name = f"{package}_{version.replace(':', '%3a')}_*.deb"
    found = sorted(folder.glob(name))
    if not found:
        what = f"{package}={version}" if digest else package
        get = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", what]
        done = subprocess.run(get, cwd=folder, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            fail(f"cannot download {what}: {done.stderr.strip()}\n  try: apt-get update, as root")
        found = sorted(folder.glob(name))
    if digest and sha256(found[0]) != digest:
        fail(f"{found[0]}: sha256 differs\n  expected: {digest}\n  found: {sha256(found[0])}")
    return found[0]


def candidate(package):
    shown = subprocess.run(["apt-cache", "show", "--no-all-versions", package], capture_output=True, text=True).stdout
    found = re.search(r"^Version: (.*)$", shown, re.M)
    return found[1] if found else fail(f"apt knows no {package}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=HERE.parent / "build/corpus/text.txt")
    parser.add_argument("--debs", type=pathlib.Path, default=HERE.parent / "build/corpus/debs")
    parser.add_argument("--pin", action="store_true")
    options = parser.parse_args()
    rows, (_, size, digest) = read_table()
    if not options.pin and options.out.exists() and sha256(options.out) == digest:
        return
    options.debs.mkdir(parents=True, exist_ok=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.pin:
        rows = [[package, candidate(package), "", wanted] for package, _, _, wanted in rows]
    debs = [deb_of(options.debs, package, version, known) for package, version, known, _ in rows]
    seen, parts = set(), []
    with concurrent.futures.ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for row, paragraphs in zip(rows, pool.map(text_of, debs, [row[3] for row in rows])):
            kept = [p for p in paragraphs if worth(p) and not (p in seen or seen.add(p))]
            parts.append("\n\n".join(kept).encode("utf-8", "replace"))
            print(f"{row[0]}: {len(parts[-1])} bytes, {len(kept)} of {len(paragraphs)} paragraphs", flush=True)
    text = b"\n\n".join(parts) + b"\n"
    found = hashlib.sha256(text).hexdigest()
    if options.pin:
        comments = [line for line in TABLE.read_text().splitlines() if line.startswith("#")]
        for row, deb in zip(rows, debs):
            row[2] = sha256(deb)
        lines = comments + ["\t".join(row) for row in rows] + [f"text\t{len(text)}\t{found}"]
        TABLE.write_text("\n".join(lines) + "\n")
    elif found != digest:
        fail(f"the text's sha256 differs\n  expected: {digest} ({size} bytes)\n  found: {found} ({len(text)} bytes)")
    fresh = options.out.with_suffix(".part")
    fresh.write_bytes(text)
    fresh.replace(options.out)
    print(f"{options.out}: {len(text)} bytes")


if __name__ == "__main__":
    main()
