// Package model is Voltage's vocabulary: the types that devices, scripts,
// services and programs exchange, and the forms in which they are stored.
//
// A channel is one connection to a device; it has points, each with an id that
// is unique within the channel. A model is what people and other programs see:
// an instance such as "pcs1" whose named points are bound to channel points.
// Values flow from points to models; commands flow from models to points.
//
// The package imports nothing but the standard library, and everything else in
// Voltage imports it.
package model
