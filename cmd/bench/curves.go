package main

import (
	"fmt"
	"html"
	"strings"
)

// A curves picture shows lines through points: figures over time, or by a number of something.
type curves struct {
	Title string
	Unit  string // of the figures
	Along string // what goes from left to right, with its unit
	Lines []line
	Marks []mark
}

type line struct {
	Name   string
	Points []point // by ascending X
	Dots   bool    // each point was measured by itself: show it, with its noise
}

// A point is a figure at a place. Low and high are its noise; zero is none.
type point struct {
	X float64
	spread
}

// A mark names a moment.
type mark struct {
	X    float64
	Text string
}

func (c curves) heading() string { return c.Title }

func (c curves) svg() string {
	wide, high := 0.0, 0.0
	var names []string
	for _, l := range c.Lines {
		names = append(names, l.Name)
		for _, p := range l.Points {
			wide, high = max(wide, p.X), max(high, p.Median, p.High)
		}
	}
	b := newCanvas(c.Title, c.Unit, high)
	if wide == 0 {
		wide = 1
	}
	x := func(v float64) float64 { return left + float64(plotWidth-left-right)*v/wide }
	for v, step := 0.0, gap(wide); v <= wide*1.0001; v += step {
		b.below(x(v), label(v))
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end" fill="#555">%s</text>`+"\n", plotWidth-right, plotHeight-8, html.EscapeString(c.Along))
	for i, m := range c.Marks {
		fmt.Fprintf(b, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#999" stroke-dasharray="3 3"/>`, x(m.X), x(m.X), upper, plotHeight-lowerEdge)
		fmt.Fprintf(b, `<text x="%.1f" y="%d" font-size="10" fill="#555">%s</text>`+"\n", x(m.X)+3, upper+10+i%3*11, html.EscapeString(m.Text))
	}
	for i, l := range c.Lines {
		colour := colours[i%len(colours)]
		var path strings.Builder
		for _, p := range l.Points {
			fmt.Fprintf(&path, "%.1f,%.1f ", x(p.X), b.y(p.Median))
			if l.Dots {
				fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`, x(p.X), b.y(p.Median), colour)
				if p.High > 0 {
					fmt.Fprintf(b, `<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="black"/>`+"\n", x(p.X), x(p.X), b.y(p.Low), b.y(p.High))
				}
			}
		}
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", strings.TrimSpace(path.String()), colour)
	}
	return b.finish(names)
}
