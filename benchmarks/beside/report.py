"""What the rounds say: medians, ratios with their interval, a chart."""
import math
import statistics

COLOURS = {"sluice": "#2563a8", "haproxy": "#8d98a6", "nginx": "#b5bdc7", "envoy": "#d8dde3"}
PEERS = ("haproxy", "nginx")


def interval(values):
    """95 % interval of the median by order statistics."""
    ordered, n = sorted(values), len(values)
    k = max(0, int(math.floor(n / 2 - 1.96 * math.sqrt(n) / 2)))
    return ordered[k], ordered[n - 1 - k]


def cost(cell):
    return cell["user"] + cell["system"] if "user" in cell else cell["memory"]


def summary(work, unit, rows):
    ratios = [cost(row["sluice"]) / min(cost(row[name]) for name in PEERS) for row in rows]
    low, high = interval(ratios)
    return {"work": work, "unit": unit, "ratio": statistics.median(ratios), "low": low, "high": high, "rows": rows}


def table(result):
    rows = result["rows"]
    print(f"\n{result['work']} ({result['unit']}, median of {len(rows)} rounds)")
    print(f"  {'':10}{'cost':>9}{'user':>9}{'system':>9}{'p99 ms':>9}{'units':>10}")

    def median(cells, key):
        values = [cell[key] for cell in cells if cell.get(key) is not None]
        return statistics.median(values) if values else float("nan")

    for name in rows[0]:
        cells = [row[name] for row in rows]
        print(f"  {name:10}{statistics.median(map(cost, cells)):9.2f}{median(cells, 'user'):9.2f}{median(cells, 'system'):9.2f}"
              f"{median(cells, 'p99_ms'):9.2f}{median(cells, 'units'):10.0f}")
    print(f"  Sluice / better peer: {result['ratio']:.2f}  (95 %: {result['low']:.2f} to {result['high']:.2f})")


def chart(results, path):
    """Bars of each work's cost as a multiple of the better peer's, with the interval of Sluice's; 1.0 is a line."""
    left, bar, gap, width, top = 210, 13, 16, 760, 46
    scale = (width - left - 70) / 2.5  # pixels for 1.0; what is longer is cut and says its number
    parts, y = [], top
    for result in results:
        rows = result["rows"]
        best = statistics.median(min(cost(row[name]) for name in PEERS) for row in rows)
        parts.append(f'<text x="{left - 8}" y="{y + 1.9 * bar}" text-anchor="end">{result["work"]}</text>')
        for name in COLOURS:
            if name not in rows[0]:
                continue
            value = statistics.median(cost(row[name]) for row in rows)
            ratio = result["ratio"] if name == "sluice" else value / best
            length = min(ratio, 2.5) * scale
            parts.append(f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{bar - 2}" fill="{COLOURS[name]}"/>')
            label = left + length + 6
            if name == "sluice":
                middle, low, high = y + bar / 2 - 1, left + result["low"] * scale, left + min(result["high"], 2.5) * scale
                parts.append(f'<path d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {y + 2}v{bar - 6}M{high:.1f} {y + 2}v{bar - 6}" '
                             'stroke="#111" fill="none"/>')
                label = max(label, high + 6)
            parts.append(f'<text x="{label:.1f}" y="{y + bar - 3}" class="v">{ratio:.2f}</text>')
            y += bar
        y += gap
    shown = [name for name in COLOURS if any(name in result["rows"][0] for result in results)]
    legend = "".join(f'<rect x="{left + 110 * i}" y="6" width="11" height="11" fill="{COLOURS[name]}"/>'
                     f'<text x="{left + 110 * i + 16}" y="16">{name}</text>' for i, name in enumerate(shown))
    one = left + scale
    with open(path, "w") as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y + 10}" font-family="sans-serif" font-size="12">'
                   f'<style>.v{{font-size:10px;fill:#444}}</style><rect width="{width}" height="{y + 10}" fill="#fff"/>{legend}'
                   f'<path d="M{one} {top - 8}V{y}" stroke="#c33" stroke-dasharray="4 3"/>'
                   f'<text x="{one}" y="{top - 12}" text-anchor="middle" class="v">better peer = 1.0 (less is better)</text>'
                   + "".join(parts) + "</svg>\n")
