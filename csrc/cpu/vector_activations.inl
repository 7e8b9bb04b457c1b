// Activations on vectors, as the kernels' loops call them: the first ones inlined, the others by a call for each
// vector, which costs a few percent of what such an activation takes. So every loop is compiled for few of them, and
// each of the others once for a type. Part of kernels.inl, paired.inl and tile_products.inl.

template <class T> FUSED_GAN_FUNCTION Parameters<Vec<T>> broadcast(const Activation& activation) {
  return {broadcast(T(activation.parameters.first)), broadcast(T(activation.parameters.second))};
}

template <class Act, class Type> struct Inlined {
  using T = Type;
  Parameters<Vec<T>> parameters;

  FUSED_GAN_FUNCTION explicit Inlined(const Activation& activation) : parameters(broadcast<T>(activation)) {}
  FUSED_GAN_FUNCTION Vec<T> forward(Vec<T> z) const { return Act::forward(z, parameters); }
  // x: what the activation's gradient reads.
  FUSED_GAN_FUNCTION Vec<T> gradient(Vec<T> dy, Vec<T> x) const { return Act::gradient(dy, x, parameters); }
};

template <class T, class Act>
__attribute__((noinline)) Vec<T> forward_of(Vec<T> z, const Parameters<Vec<T>>& parameters) {
  return Act::forward(z, parameters);
}
template <class T, class Act>
__attribute__((noinline)) Vec<T> gradient_of(Vec<T> dy, Vec<T> x, const Parameters<Vec<T>>& parameters) {
  return Act::gradient(dy, x, parameters);
}

template <class Type> struct Called {
  using T = Type;
  Parameters<Vec<T>> parameters;
  Vec<T> (*forward_call)(Vec<T>, const Parameters<Vec<T>>&) = nullptr;
  Vec<T> (*gradient_call)(Vec<T>, Vec<T>, const Parameters<Vec<T>>&) = nullptr;

  FUSED_GAN_FUNCTION explicit Called(const Activation& activation) : parameters(broadcast<T>(activation)) {
    Activations::visit(activation.index, [&](auto act) {
      if constexpr (!is_inlined(Activations::index_of<decltype(act)>())) {
        forward_call = forward_of<T, decltype(act)>;
        gradient_call = gradient_of<T, decltype(act)>;
      }
    });
  }
  FUSED_GAN_FUNCTION Vec<T> forward(Vec<T> z) const { return forward_call(z, parameters); }
  FUSED_GAN_FUNCTION Vec<T> gradient(Vec<T> dy, Vec<T> x) const { return gradient_call(dy, x, parameters); }
};

// Calls f(act) with the activation on vectors of T. Its type is what f is compiled for.
template <class T, class F> FUSED_GAN_FUNCTION void with_activation(const Activation& activation, F&& f) {
  if (!is_inlined(activation.index)) return f(Called<T>(activation));
  InlinedActivations::visit(activation.index, [&](auto act) { f(Inlined<decltype(act), T>(activation)); });
}
