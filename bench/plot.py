"""Charts as SVG, without libraries."""

import html
import math

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 50
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")


def _ticks(low, high):
    """Powers of ten, and 2 and 5 times them where that makes too few."""
    out = []
    for steps in ((1,), (1, 2, 5)):
        out = [step * 10 ** power
               for power in range(math.floor(math.log10(low)),
                                  math.ceil(math.log10(high)) + 1)
               for step in steps if low <= step * 10 ** power <= high]
        if len(out) >= 3:
            break
    return out


def _number(value):
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g} {unit}"
    return f"{value:g}"


class Panel:
    """Lines over logarithmic axes: `series` has name -> [(x, y)]."""

    def __init__(self, title, x_name, y_name, series):
        self.title, self.x_name, self.y_name = title, x_name, y_name
        self.series = series
        xs = [x for points in series.values() for x, _ in points]
        ys = [y for points in series.values() for _, y in points]
        self.x_range = (min(xs), max(max(xs), min(xs) * 2))
        self.y_range = (min(ys) / 1.5, max(ys) * 1.5)

    @staticmethod
    def _at(value, span, start, length):
        low, high = (math.log(end) for end in span)
        return start + (math.log(value) - low) / (high - low) * length

    def _x(self, value):
        return self._at(value, self.x_range, LEFT, WIDTH - LEFT - RIGHT)

    def _y(self, value):
        return HEIGHT - self._at(value, self.y_range, BOTTOM,
                                 HEIGHT - TOP - BOTTOM)

    def draw(self, left, top):
        out = [f'<g transform="translate({left},{top})">']

        def text(x, y, words, anchor="middle", size=11, turn=""):
            out.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" '
                       f'text-anchor="{anchor}"{turn}>'
                       f"{html.escape(words)}</text>")

        text(WIDTH / 2, 20, self.title, size=13)
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, self.x_name)
        middle = (TOP + HEIGHT - BOTTOM) / 2
        text(16, middle, self.y_name,
             turn=f' transform="rotate(-90 16 {middle:.1f})"')
        for value in _ticks(*self.x_range):
            x = self._x(value)
            out.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" '
                       f'y2="{HEIGHT - BOTTOM}" stroke="#ddd"/>')
            text(x, HEIGHT - BOTTOM + 16, _number(value))
        for value in _ticks(*self.y_range):
            y = self._y(value)
            out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" '
                       f'y2="{y:.1f}" stroke="#ddd"/>')
            text(LEFT - 6, y + 4, _number(value), anchor="end")
        for number, (name, points) in enumerate(self.series.items()):
            colour = COLOURS[number % len(COLOURS)]
            spots = [(self._x(x), self._y(y)) for x, y in points]
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
            out.append(f'<polyline points="{line}" fill="none" '
                       f'stroke="{colour}" stroke-width="2"/>')
            out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
                    for x, y in spots]
            y = TOP + 14 + 15 * number
            out.append(f'<rect x="{LEFT + 8}" y="{y - 8}" width="10" '
                       f'height="10" fill="{colour}"/>')
            text(LEFT + 24, y + 1, name, anchor="start")
        out.append("</g>")
        return out


def write(path, panels, columns=2):
    rows = (len(panels) + columns - 1) // columns
    width, height = columns * WIDTH, rows * HEIGHT
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
           f'height="{height}" font-family="sans-serif">',
           f'<rect width="{width}" height="{height}" fill="white"/>']
    for number, panel in enumerate(panels):
        out += panel.draw(number % columns * WIDTH, number // columns * HEIGHT)
    out.append("</svg>\n")
    path.write_text("\n".join(out))
