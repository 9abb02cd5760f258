"""One call a row with asyncio and aiohttp, 64 at once, nothing durable: asyncio_run.py URL ROWS.
Prints the seconds and the number of answers."""
import asyncio
import json
import sys
import time

import aiohttp

SYSTEM = "You are a sentiment analyzer. Always respond with valid JSON."
ASK = 'Analyze sentiment. Return JSON: {"sentiment": "<positive|negative|neutral>"}\n\n'


async def main():
    url, path = sys.argv[1:3]
    begin, answers = time.monotonic(), []
    with open(path) as f:
        rows = iter([json.loads(line) for line in f])
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64)) as session:
        async def slot():
            for row in rows:
                body = {"model": "gpt-5.4-mini", "messages": [{"role": "system", "content": SYSTEM},
                                                              {"role": "user", "content": ASK + row["text"]}]}
                async with session.post(url, json=body, headers={"Authorization": "Bearer k"}) as reply:
                    answer = await reply.json()
                    answers.append({**row, "answer": answer["choices"][0]["message"]["content"]})
        await asyncio.gather(*(slot() for _ in range(64)))
    with open("asyncio-out.jsonl", "w") as f:
        f.writelines(json.dumps(row) + "\n" for row in answers)
    print(time.monotonic() - begin, len(answers))


asyncio.run(main())
