"""What the limits bench is made of: the simulator's ledger, two usual clients, a plot."""
import asyncio
import http.client
import json
import random
import sys
import time


def control(port, change):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    c.request("POST", "/control", json.dumps(change))
    status = c.getresponse().status
    c.close()
    if status != 200:
        sys.exit(f"/control: got {status} for {change}")


# ---- The ledger ------------------------------------------------------------------------------------

class Ledger:
    """Charges by time, in seconds since 1970. of: requests or tokens."""

    def __init__(self, lines, of):
        self.charges, self.stranger, self.refused = [], [], []
        for line in lines:
            at = line["unix_us"] / 1e6
            if line["status"] == 429:
                self.refused.append(at)
            if line.get("admitted"):
                tokens = line["charged_input"] + line["charged_output"]
                self.charges.append((at, 1 if of == "requests" else tokens))
            spent = line.get("stranger", {}).get("limit-rpm" if of == "requests" else "limit-tpm", 0)
            if spent:
                self.stranger.append((at, spent))
        self.charges.sort()
        self.stranger.sort()
        self.refused.sort()

    def first(self):
        return self.charges[0][0] if self.charges else 0

    def per_minute(self, begin, end, charges=None):
        charges = self.charges if charges is None else charges
        return 60 / (end - begin) * sum(n for at, n in charges if begin <= at < end)

    def peak(self, span):
        """The most that was charged within any span of seconds, as a rate a minute."""
        most = total = tail = 0
        for at, n in self.charges:
            total += n
            while self.charges[tail][0] <= at - span:
                total -= self.charges[tail][1]
                tail += 1
            most = max(most, total)
        return most * 60 / span


# ---- The two usual ways ----------------------------------------------------------------------------

async def post(reader, writer, port, body):
    writer.write((f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer a-key\r\n"
                  f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}").encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length"))
    answer = await reader.readexactly(length)
    status = int(head.split()[1])
    return status, json.loads(answer) if status == 200 else None


def usual_client(port, seconds, max_tokens, slots, rpm=0, tpm=0):
    """Sends calls with so many slots; a 429 is tried again after a delay drawn from 0..2^n s (full jitter).

    With rpm and tpm it keeps to them by what the last 60 s of answers have used.
    """
    body = json.dumps({"model": "m", "max_completion_tokens": max_tokens,
                       "messages": [{"role": "user", "content": "How good is this review? " + "word " * 30}]})
    end, used = time.monotonic() + seconds, []

    def has_room():
        while used and used[0][0] < time.monotonic() - 60:
            used.pop(0)
        return (rpm == 0 or len(used) < rpm) and (tpm == 0 or sum(n for _, n in used) < tpm)

    async def slot():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        n_refused = 0
        while time.monotonic() < end:
            if not has_room():
                await asyncio.sleep(0.05)
                continue
            status, answer = await post(reader, writer, port, body)
            if status == 200:
                n_refused = 0
                used.append((time.monotonic(), answer["usage"]["total_tokens"]))
            else:
                n_refused += 1
                await asyncio.sleep(random.uniform(0, min(60, 2 ** n_refused)))
        writer.close()

    async def all_slots():
        await asyncio.wait([asyncio.ensure_future(slot()) for _ in range(slots)], timeout=seconds + 1)
    asyncio.run(all_slots())


# ---- The plot --------------------------------------------------------------------------------------

WIDTH, HEIGHT, LEFT, TOP, BIN = 420, 190, 52, 34, 2


def panel(x0, y0, title, ledger, limits, seconds, marks):
    """One plot: what was admitted a minute, by bins of 2 s; limits: (from second, limit); marks: (second, text)."""
    begin, top = ledger.first(), 1.35 * max(limit for _, limit in limits)
    w, h = WIDTH - LEFT - 12, HEIGHT - TOP - 30

    def place(second, rate):
        return f"{x0 + LEFT + w * second / seconds:.1f},{y0 + TOP + h * (1 - min(rate, top) / top):.1f}"
    points, red = [], []
    mean = sum(n for _, n in ledger.charges) / max(1, len(ledger.charges))  # of a call, refused or not
    for i in range(int(seconds / BIN)):
        at = begin + i * BIN
        rate = ledger.per_minute(at, at + BIN)
        points += [place(i * BIN, rate), place((i + 1) * BIN, rate)]
        n = sum(1 for t in ledger.refused if at <= t < at + BIN)
        if n:
            x, y = place(i * BIN, 0).split(",")
            bar = min(h, h * n * mean * 60 / BIN / top)
            red.append(f'<rect x="{x}" y="{float(y) - bar:.1f}" width="{w * BIN / seconds:.1f}" height="{bar:.1f}" '
                       'fill="#d33" opacity="0.45"/>')
    steps = []
    for i, (second, limit) in enumerate(limits):
        until = limits[i + 1][0] if i + 1 < len(limits) else seconds
        steps += [place(second, limit), place(until, limit)]
    text = 'font-family="sans-serif" font-size="11" fill="#333"'
    out = [f'<text x="{x0 + LEFT}" y="{y0 + 16}" {text} font-weight="bold">{title}</text>', *red]
    for rate in (0, limits[0][1] / 2, limits[0][1]):
        x, y = place(0, rate).split(",")
        out.append(f'<text x="{float(x) - 6}" y="{float(y) + 4}" {text} text-anchor="end">{rate:.0f}</text>')
    for second in range(0, int(seconds) + 1, 30):
        x, y = place(second, 0).split(",")
        out.append(f'<text x="{x}" y="{float(y) + 16}" {text} text-anchor="middle">{second} s</text>')
    for second, what in marks:
        x, y = place(second, top).split(",")
        out.append(f'<line x1="{x}" y1="{y}" x2="{x}" y2="{y0 + TOP + h}" stroke="#888" stroke-dasharray="2 3"/>'
                   f'<text x="{float(x) + 3}" y="{float(y) + 8}" {text}>{what}</text>')
    out.append(f'<polyline points="{" ".join(steps)}" fill="none" stroke="#333" stroke-dasharray="6 3"/>')
    out.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="#06c" stroke-width="1.5"/>')
    out.append(f'<rect x="{x0 + LEFT}" y="{y0 + TOP}" width="{w}" height="{h}" fill="none" stroke="#bbb"/>')
    return "\n".join(out)


def plot(path, panels):
    rows = (len(panels) + 1) // 2
    with open(path, "w") as f:
        f.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH} {rows * HEIGHT + 24}">\n'
                '<rect width="100%" height="100%" fill="white"/>\n')
        for i, one in enumerate(panels):
            f.write(panel(i % 2 * WIDTH, i // 2 * HEIGHT, *one) + "\n")
        f.write(f'<text x="{LEFT}" y="{rows * HEIGHT + 14}" font-family="sans-serif" font-size="11" fill="#333">'
                'a minute, over 2 s: blue what was admitted, red what was refused (429), dashed the limit</text>\n'
                '</svg>\n')
