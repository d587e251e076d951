package shim

import "github.com/dora-go/dora/shim/route"

type (
	router       = *route.Router
	routerConfig = route.Config
)

func newRouter(c routerConfig) (router, error) { return route.New(c) }
