/** Calm on a screen, plain on paper: one ink, one tint, and colour only where something needs a look. */
export const STYLE = `
:root { --ink: #1d2329; --soft: #5b6670; --hair: #dfe3e6; --tint: #f6f7f8; --blue: #2b5c8a; --bad: #a4262c; --warn: #8a5a00; --good: #23663b; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 960px; padding: 40px 32px 64px; color: var(--ink); background: #fff; font: 14px/1.5 system-ui, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 6px; font-weight: 650; letter-spacing: -0.01em; }
h2 { font-size: 18px; margin: 44px 0 10px; font-weight: 650; }
h3 { font-size: 14px; margin: 22px 0 6px; font-weight: 650; }
p { margin: 6px 0; max-width: 76ch; }
.meta, .none, .note { color: var(--soft); max-width: none; }
.note { font-size: 13px; }
code, .mono { font: 12.5px/1.5 ui-monospace, "SF Mono", "Noto Sans Mono", "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
.verdict { margin: 24px 0; padding: 14px 18px; border-left: 5px solid var(--good); background: var(--tint); break-inside: avoid; }
.verdict p:first-child { font-size: 16px; font-weight: 600; margin: 0; }
.verdict.tampered { border-color: var(--bad); } .verdict.tampered p:first-child { color: var(--bad); }
.verdict.tail, .verdict.gap, .verdict.unknown { border-color: #c98a00; }
.verdict ul { list-style: none; margin: 8px 0 0; padding: 0; color: var(--soft); font-size: 13px; overflow-wrap: anywhere; }
.numbers { display: flex; flex-wrap: wrap; gap: 0 34px; margin: 22px 0 6px; padding: 0; list-style: none; }
.numbers b { display: block; font-size: 22px; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.3; }
.numbers span { color: var(--soft); font-size: 13px; }
.numbers .look b { color: var(--bad); }
nav { margin: 18px 0 0; font-size: 13px; } nav a { color: var(--blue); margin-right: 16px; text-decoration: none; }
table { border-collapse: collapse; width: 100%; font-size: 13px; margin: 6px 0 4px; }
th { text-align: left; font-weight: 600; color: var(--soft); border-bottom: 1px solid #b9c0c6; padding: 4px 12px 4px 0; white-space: nowrap; }
td { vertical-align: top; border-bottom: 1px solid var(--hair); padding: 5px 12px 5px 0; overflow-wrap: anywhere; }
th:last-child, td:last-child { padding-right: 0; }
td.time, td.num { font-variant-numeric: tabular-nums; white-space: nowrap; } td.time { color: var(--soft); width: 1%; } td.num, th.num { text-align: right; }
td.who { white-space: nowrap; width: 1%; }
tr { break-inside: avoid; }
tr.day td { border-bottom: 1px solid #b9c0c6; padding-top: 16px; font-weight: 600; }
tr.bad td.what { color: var(--bad); font-weight: 600; } tr.warn td.what { color: var(--warn); } tr.act td.what { color: var(--blue); }
tr.bad td:first-child { box-shadow: inset 3px 0 0 var(--bad); padding-left: 8px; } table.rows td.time { padding-left: 8px; }
.objects { color: var(--soft); font-weight: 400; }
.times { color: var(--soft); font-weight: 400; white-space: nowrap; }
.new { display: inline-block; font-size: 11px; font-weight: 600; line-height: 1.45; color: var(--bad); border: 1px solid currentColor; border-radius: 3px; padding: 0 4px; margin-left: 6px; white-space: nowrap; }
section.before { background: var(--tint); padding: 4px 16px 12px; margin-top: 10px; }
figure { margin: 12px 0 18px; break-inside: avoid; } figcaption { font-size: 13px; color: var(--soft); } figcaption b { color: var(--ink); font-weight: 600; margin-right: 6px; }
svg { display: block; width: 100%; height: auto; } svg text { font: 10.5px system-ui, "Noto Sans", "DejaVu Sans", sans-serif; fill: var(--soft); }
.base { stroke: #9aa4ac; } .tick { stroke: #eceff1; } .area { fill: var(--blue); fill-opacity: .12; } .line { fill: none; stroke: var(--blue); stroke-width: 1.4; stroke-linejoin: round; }
line.limit { stroke: var(--bad); stroke-dasharray: 5 3; } svg text.limit, svg text.kill { fill: var(--bad); } line.kill { stroke: var(--bad); stroke-width: 1.4; }
ul.plain { margin: 6px 0; padding-left: 18px; } ul.plain li { margin: 2px 0; overflow-wrap: anywhere; }
.sentences { columns: 1; color: var(--ink); font-size: 13px; }
footer { margin-top: 52px; padding-top: 12px; border-top: 1px solid var(--hair); color: var(--soft); font-size: 13px; }
@page { margin: 16mm 14mm; }
@media print { body { max-width: none; padding: 0; font-size: 10.5pt; } nav { display: none; } h2 { break-after: avoid; margin-top: 28px; } h3 { break-after: avoid; } table { font-size: 9pt; } thead { display: table-header-group; } .verdict, section.before { -webkit-print-color-adjust: exact; print-color-adjust: exact; } }
`
