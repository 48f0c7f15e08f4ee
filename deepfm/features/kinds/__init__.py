"""Kinds of fields: conversion of raw values to ids or numbers."""
