//! What this machine has: packages, devices and their libraries, toolkits.

pub(crate) mod devices;
pub(crate) mod driver;
pub(crate) mod engines;
pub(crate) mod libraries;
pub(crate) mod onnxruntime_web;
pub(crate) mod packages;
pub(crate) mod pretrained;
pub(crate) mod python;
pub(crate) mod survey;
pub(crate) mod toolkit;
pub(crate) mod wheels;
