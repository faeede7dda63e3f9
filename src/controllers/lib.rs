//! k3s-controllers
