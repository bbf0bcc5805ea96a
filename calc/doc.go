// Package calc computes points of models from other points: expressions such as
//
//	integral(max(active_power, 0), h)
//	sum(children.pv.active_power)
//	if(grid_power > 1.1 * rated_power, 1, 0)
//
// It is pure: whoever uses it reads the inputs, tells the time and stores the
// results. A reference is a point or a property of the same model (soc), one of
// another model (meter1.active_power), or the same point of every child of the
// model (children.active_power), or of those children that are made of a
// template or of one that extends it (children.pv.active_power). Names that are
// no words stand in quotes: 'meter-1:power'.
//
// Operators, from weakest to strongest: or; and; not; < <= > >= == !=; + -;
// * /; and the sign. Comparisons give 1 or 0, and allow for the six stored
// decimals where they test for equality.
//
// The functions:
//
//	if(condition, a, b)            a where the condition is not 0, else b
//	abs(a)
//	min(a, …) max(a, …)            of everything in the brackets
//	sum(a, …) avg(a, …)
//	skip_bad(a, …)                 within these four: leaves out what is not usable
//	integral(a, h)                 over time, in a times s, min or h
//	integral(a, h, 5m)             and how long a silence it bridges, 1m without
//	moving_average(a, 60s)         over the last minute
//	rate(a) rate(a, 60s)           change in a second, over the last 10 s or minute
//
// The quality of a result is the worst of what went into it: an input that is
// not usable makes the result not usable. skip_bad makes it uncertain instead,
// unless nothing is left.
package calc
