"""A page that plays a film: the image with controls above, steps by slider, button and key.

It needs no network and no file beside it. Without its script the image plays by itself.
"""

import json
from html import escape

from ..terminal.streams import harmless
from .film import PAGE_MARK, Film, svg


def html(film: Film, title: str) -> str:
    """The page: controls, the very image that `svg` gives, a note and the prompt."""
    return PAGE.format(
        mark=PAGE_MARK,
        title=_escaped(title),
        prompt=f"<h2>Prompt</h2>\n<pre>\n{_escaped(film.prompt)}</pre>" if film.prompt else "",
        note=f"<p>{_escaped(film.note)}</p>\n" if film.note else "",
        last=len(film.pictures) - 1,
        count=len(film.pictures),
        times=json.dumps([round(1000 * seconds) for seconds in (*film.starts, film.length)]),
        image=svg(film, title),
    )


def _escaped(text: str) -> str:
    """Any text as text, with what is no character written as \\x1b and the like."""
    return escape(harmless(text).encode("utf-8", "backslashreplace").decode())


# Colours: text and accent have 4.5:1 and more on their background; a test computes it.
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
{mark}
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ --back: #ffffff; --text: #1f2328; --line: #767676; --accent: #0057ae; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --back: #1e1e1e; --text: #d6d6d6; --line: #8a8a8a; --accent: #7fb8ff; }}
}}
body {{ margin: 1rem auto; max-width: 60rem; padding: 0 1rem; background: var(--back);
  color: var(--text); font: 16px/1.4 system-ui, sans-serif; }}
h1 {{ font-size: 1.25rem; }}
h2 {{ font-size: 1rem; margin-bottom: 0; }}
pre {{ margin: .5rem 0; padding: .5rem; border: 1px solid var(--line); border-radius: 8px;
  max-height: 15rem; overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere; }}
#controls {{ display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; margin: 1rem 0; }}
button, select {{ font: inherit; min-height: 2.5rem; min-width: 2.5rem; padding: 0 .75rem;
  color: inherit; background: var(--back); border: 1px solid var(--line); border-radius: 8px; }}
input {{ flex: 1 1 12rem; min-height: 2.5rem; accent-color: var(--accent); }}
output {{ font-variant-numeric: tabular-nums; min-width: 8rem; }}
:focus-visible {{ outline: 3px solid var(--accent); outline-offset: 2px; }}
#film {{ overflow-x: auto; }}
svg {{ display: block; max-width: 100%; min-width: 30rem; height: auto; }}
.stepped #film g {{ animation: none !important; }}
noscript, small {{ display: block; }}
</style>
</head>
<body>
<h1>{title}</h1>
<noscript>Without JavaScript the image plays by itself.</noscript>
<div id="controls" role="group" aria-label="Playback" hidden>
<button id="back" aria-label="One step back">&#9664;&#xFE0E;</button>
<button id="play">Play</button>
<button id="forth" aria-label="One step forward">&#9654;&#xFE0E;</button>
<input id="step" type="range" min="0" max="{last}" value="0" aria-label="Step">
<output id="place" for="step">step 1 of {count}</output>
<label>Speed <select id="speed">
<option value="0.25">&#188;&#215;</option><option value="0.5">&#189;&#215;</option>
<option value="1" selected>1&#215;</option><option value="2">2&#215;</option>
<option value="4">4&#215;</option>
</select></label>
</div>
<div id="film" tabindex="0" role="region" aria-label="Picture">
{image}</div>
<small>Keys: space plays and pauses, arrows step, Home and End go to the first and the last.</small>
{note}{prompt}
<script>
"use strict";
const times = {times};
const last = {last};
const at = (id) => document.getElementById(id);
const parts = [...document.querySelectorAll("#film g[class]")].map((part) => {{
  const [first, end] = part.getAttribute("class").slice(1).split("-").map(Number);
  return {{part, first, end}};
}});
let step = 0, timer = null;
const show = (wanted) => {{
  step = Math.max(0, Math.min(last, wanted));
  for (const {{part, first, end}} of parts) {{
    part.style.visibility = first <= step && step < end ? "visible" : "hidden";
  }}
  const place = `step ${{step + 1}} of ${{last + 1}}`;
  at("step").value = step;
  at("step").setAttribute("aria-valuetext", place);
  at("place").textContent = place;
}};
const pause = () => {{
  clearTimeout(timer);
  timer = null;
  at("play").textContent = "Play";
}};
const next = () => {{
  const wait = (times[step + 1] - times[step]) / Number(at("speed").value);
  timer = setTimeout(() => {{ show(step === last ? 0 : step + 1); next(); }}, wait);
}};
const play = () => {{
  pause();
  at("play").textContent = "Pause";
  next();
}};
const go = (wanted) => {{ pause(); show(wanted); }};
const turn = () => timer === null ? play() : pause();
const keys = {{
  " ": turn, ArrowLeft: () => go(step - 1), ArrowRight: () => go(step + 1),
  Home: () => go(0), End: () => go(last),
}};
at("back").onclick = () => go(step - 1);
at("forth").onclick = () => go(step + 1);
at("play").onclick = turn;
at("step").oninput = () => go(Number(at("step").value));
at("speed").onchange = () => {{ if (timer !== null) play(); }};
document.addEventListener("keydown", (event) => {{
  const own = event.target.tagName;
  const taken = own === "SELECT" || own === "INPUT" && event.key !== " "
    || own === "BUTTON" && event.key === " ";
  if (taken || event.ctrlKey || event.altKey || event.metaKey || !(event.key in keys)) return;
  event.preventDefault();
  keys[event.key]();
}});
document.documentElement.classList.add("stepped");
at("controls").hidden = false;
show(0);
if (!matchMedia("(prefers-reduced-motion: reduce)").matches) play();
</script>
</body>
</html>
"""
