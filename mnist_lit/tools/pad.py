"""The square of the demo page that one draws on, and the page's style: HTML, JavaScript and CSS.

Gradio's own Sketchpad has a margin that takes no ink, and changes its size when it is cleared.
"""

PAD = """
<canvas width="560" height="560" role="img"
    aria-label="Square to draw a digit or a number in, with a mouse, a finger or a pen"></canvas>
<button type="button">Undo</button>
<button type="button" aria-keyshortcuts="Delete Backspace">Draw again (Delete)</button>
"""

PAD_JS = """
const canvas = element.querySelector("canvas"), pen = canvas.getContext("2d"), strokes = []
const [undo, again] = element.querySelectorAll("button")
const redraw = () => {
    pen.fillStyle = "white"
    pen.fillRect(0, 0, canvas.width, canvas.height)
    pen.lineWidth = 42  // a digit that fills the canvas has strokes about as wide as MNIST's
    pen.lineCap = pen.lineJoin = "round"
    for (const stroke of strokes) {
        pen.beginPath()
        pen.moveTo(stroke[0][0] - 0.1, stroke[0][1])  // so that a click makes a dot
        stroke.forEach(point => pen.lineTo(...point))
        pen.stroke()
    }
}
const send = () => {
    redraw()
    props.value = strokes.length ? canvas.toDataURL() : null
    trigger("input")
}
const add = event => {
    const box = canvas.getBoundingClientRect(), scale = canvas.width / box.width
    strokes.at(-1).push([scale * (event.clientX - box.left), scale * (event.clientY - box.top)])
}
canvas.onpointerdown = event => {
    if (!event.isPrimary || event.button) return
    canvas.setPointerCapture(event.pointerId)
    strokes.push([])
    add(event)
}
canvas.onpointermove = event => {
    if (!event.isPrimary || !canvas.hasPointerCapture(event.pointerId)) return
    event.getCoalescedEvents().concat(event).forEach(add)
    redraw()
}
canvas.onlostpointercapture = send
undo.onclick = () => { strokes.pop(); send() }
again.onclick = () => { strokes.length = 0; send() }
// The key "delete" of a Mac is Backspace.
document.addEventListener("keydown", event => ["Delete", "Backspace"].includes(event.key) && again.click())
redraw()
"""

CSS = """
.gradio-container { max-width: 1000px !important }
.html-container { padding: 0 !important }
#pad canvas { width: 100%; aspect-ratio: 1; touch-action: none; cursor: crosshair; outline: 1px solid grey }
#pad button { margin-top: 8px; padding: 4px 12px; border: 1px solid grey; border-radius: 4px; font-size: 1em }
#answer { min-height: 4em }
#answer strong { font-size: 3em }
#digits summary { cursor: pointer; font-size: 1.2em; padding: 4px 0 }
#digits figure { display: inline-block; width: 46%; margin: 0 2% 0 0; vertical-align: top }
#digits img { width: 100%; margin: 4px 0; image-rendering: pixelated; outline: 1px solid grey }
#digits :is(table, tr, th, td) { border: 0 !important; padding: 0 8px !important }
#digits svg { width: 100%; max-height: 480px; margin: 16px 0; overflow: visible }
#digits rect { fill: none; stroke: red; stroke-width: 2; vector-effect: non-scaling-stroke }
#digits text { fill: red }
#picture .or { color: inherit }
"""
