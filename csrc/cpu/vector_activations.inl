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

// A called activation: as it is, or with a gain and a limit behind it.
template <class Act> struct Alone {
  template <class V> FUSED_GAN_FUNCTION static V forward(V z, Parameters<V> p, Scale<V>) { return Act::forward(z, p); }
  template <class V> FUSED_GAN_FUNCTION static V gradient(V dy, V x, Parameters<V> p, Scale<V>) {
    return Act::gradient(dy, x, p);
  }
};
template <class T> struct CalledNumbers {
  Parameters<Vec<T>> parameters;
  Scale<Vec<T>> scale;
};
template <class T, class Act> __attribute__((noinline)) Vec<T> forward_of(Vec<T> z, const CalledNumbers<T>& numbers) {
  return Act::forward(z, numbers.parameters, numbers.scale);
}
template <class T, class Act>
__attribute__((noinline)) Vec<T> gradient_of(Vec<T> dy, Vec<T> x, const CalledNumbers<T>& numbers) {
  return Act::gradient(dy, x, numbers.parameters, numbers.scale);
}

template <class Type> struct Called {
  using T = Type;
  CalledNumbers<T> numbers;
  Vec<T> (*forward_call)(Vec<T>, const CalledNumbers<T>&) = nullptr;
  Vec<T> (*gradient_call)(Vec<T>, Vec<T>, const CalledNumbers<T>&) = nullptr;

  FUSED_GAN_FUNCTION explicit Called(const Activation& activation)
      : numbers{broadcast<T>(activation), {broadcast(T(activation.scale.gain)), broadcast(T(activation.scale.limit))}} {
    Activations::visit(activation.index, [&](auto act) {
      using Act = decltype(act);
      if (is_scaled(activation)) call<Scaled<Act>>();
      else if constexpr (!is_inlined(Activations::index_of<Act>())) call<Alone<Act>>();
    });
  }
  FUSED_GAN_FUNCTION Vec<T> forward(Vec<T> z) const { return forward_call(z, numbers); }
  FUSED_GAN_FUNCTION Vec<T> gradient(Vec<T> dy, Vec<T> x) const { return gradient_call(dy, x, numbers); }

 private:
  template <class Act> FUSED_GAN_FUNCTION void call() {
    forward_call = forward_of<T, Act>;
    gradient_call = gradient_of<T, Act>;
  }
};

// Calls f(act) with the activation on vectors of T. Its type is what f is compiled for.
template <class T, class F> FUSED_GAN_FUNCTION void with_activation(const Activation& activation, F&& f) {
  if (!is_inlined(activation)) return f(Called<T>(activation));
  InlinedActivations::visit(activation.index, [&](auto act) { f(Inlined<decltype(act), T>(activation)); });
}
