//go:build tools

// Package jaeger names what is built here: Jaeger can't be installed by its name, since its module has replacements.
package jaeger

import _ "github.com/jaegertracing/jaeger/cmd/all-in-one"
