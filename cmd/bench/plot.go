package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// A plot shows groups of bars: a group for each number of connections, say, and in it a bar for each contestant. The
// thin line on a bar reaches from the lowest to the highest figure seen.
type plot struct {
	Title  string
	Unit   string
	Groups []string
	Series []series
}

type series struct {
	Name   string
	Points []spread // one for each group
}

// Sizes in pixels.
const (
	plotWidth, plotHeight         = 760, 380
	left, right, upper, lowerEdge = 80, 20, 60, 50
)

var colours = []string{"#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377"}

func (p plot) heading() string { return p.Title }

// A canvas is a picture that is being drawn: its frame, and the lines behind.
type canvas struct {
	strings.Builder
	high float64 // at the upper edge
}

func newCanvas(title, unit string, high float64) *canvas {
	step := gap(high)
	b := &canvas{high: max(math.Ceil(high/step), 1) * step}
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(b, `<rect width="100%%" height="100%%" fill="white"/><text x="%d" y="22" font-size="15">%s</text>`+"\n", left, html.EscapeString(title))
	for v := 0.0; v <= b.high*1.0001; v += step {
		fmt.Fprintf(b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/>`, left, plotWidth-right, b.y(v), b.y(v))
		fmt.Fprintf(b, `<text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", left-6, b.y(v)+4, label(v))
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" fill="#555">%s</text>`+"\n", 8, upper-12, html.EscapeString(unit))
	return b
}

// y returns where a value is.
func (b *canvas) y(v float64) float64 {
	return upper + float64(plotHeight-upper-lowerEdge)*(1-v/b.high)
}

// below writes under the lower edge.
func (b *canvas) below(x float64, text string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x, plotHeight-lowerEdge+18, html.EscapeString(text))
}

// finish writes the names of the series, in their colours, and returns the whole.
func (b *canvas) finish(names []string) string {
	for i, name := range names {
		x := left + 150*i
		fmt.Fprintf(b, `<rect x="%d" y="32" width="12" height="12" fill="%s"/><text x="%d" y="42">%s</text>`+"\n", x, colours[i%len(colours)], x+17, html.EscapeString(name))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (p plot) svg() string {
	high := 0.0
	var names []string
	for _, s := range p.Series {
		names = append(names, s.Name)
		for _, point := range s.Points {
			high = max(high, point.High)
		}
	}
	b := newCanvas(p.Title, p.Unit, high)
	groupWidth := float64(plotWidth-left-right) / float64(max(len(p.Groups), 1))
	barWidth := groupWidth * 0.8 / float64(max(len(p.Series), 1))
	for g, name := range p.Groups {
		begin := left + groupWidth*float64(g)
		b.below(begin+groupWidth/2, name)
		for i, s := range p.Series {
			if g >= len(s.Points) {
				continue
			}
			point := s.Points[g]
			x := begin + groupWidth*0.1 + barWidth*float64(i)
			fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`, x, b.y(point.Median), barWidth*0.92, b.y(0)-b.y(point.Median), colours[i%len(colours)])
			fmt.Fprintf(b, `<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="black"/>`+"\n", x+barWidth*0.46, x+barWidth*0.46, b.y(point.Low), b.y(point.High))
		}
	}
	return b.finish(names)
}

// gap returns a round distance of the lines behind bars as high as that.
func gap(high float64) float64 {
	if high <= 0 {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(high/4)))
	for _, m := range []float64{1, 2, 5} {
		if high/(m*unit) <= 6 {
			return m * unit
		}
	}
	return 10 * unit
}

func label(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%gM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%gk", v/1e3)
	default:
		return fmt.Sprintf("%.4g", v)
	}
}
